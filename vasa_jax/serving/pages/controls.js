// The controls, as the server declares them: name, range, unit, meaning.

import { make } from "./server.js";

const HIDDEN = { live: ["steps", "solver", "hop", "look_ahead"], look: ["animate"] };
const AXES = { gaze: ["yaw", "pitch"], head_pose: ["yaw", "pitch", "roll"] };

export class ControlsInput {
  constructor(place, about, where) {
    this.rows = [];
    if (where !== "live") {
      this.background = make("input", { type: "text", placeholder: "grey", maxLength: 60 });
      place.append(row("background", "colour behind a cut-out portrait: a name or #rrggbb", "", [this.background]));
    }
    for (const control of about.controls) {
      if (HIDDEN[where]?.includes(control.name)) continue;
      const fields = control.name === "emotion" ? emotion(about) : control.choices ? [choice(control)] : numbers(control);
      place.append(row(control.name, helped(control), told(control), fields));
      this.rows.push({ control, fields });
    }
  }

  /** Returns the controls that differ from their defaults; throws for half a value. */
  values() {
    const result = {};
    for (const { control, fields } of this.rows) {
      for (const field of fields) if (!field.checkValidity()) { field.reportValidity(); throw new Error(`${control.name}: ${field.validationMessage}`); }
      const given = fields.map((field) => field.value);
      if (given.every((text) => text === "")) {
        if (control.unset && control.default !== null) result[control.name] = null;
        continue;
      }
      if (control.name === "emotion") { result.emotion = given[1] === "" ? given[0] : `${given[0]}:${given[1]}`; if (!given[0]) throw new Error("emotion: choose one for this strength"); continue; }
      if (given.some((text) => text === "")) throw new Error(`${control.name}: give ${fields.length} numbers, or none`);
      const value = control.kind === "str" ? given[0] : fields.length > 1 ? given.map(Number) : Number(given[0]);
      if (JSON.stringify(value) !== JSON.stringify(control.default)) result[control.name] = value;
    }
    return result;
  }

  text() { return JSON.stringify(this.values()); }
}

/** Shows settings, as the server declares them; returns a function that gives those that differ from their defaults. */
export function settingRows(place, settings) {
  const rows = settings.map((setting) => {
    const field = setting.kind === "bool" ? make("input", { type: "checkbox", checked: setting.default })
      : setting.choices ? choice(setting) : setting.kind === "str" ? make("input", { type: "text", maxLength: 60, placeholder: "found" }) : numbers(setting)[0];
    place.append(row(setting.name, helped(setting), told(setting), [field]));
    return { setting, field };
  });
  return () => Object.fromEntries(rows.flatMap(({ setting, field }) => {
    if (!field.checkValidity()) { field.reportValidity(); throw new Error(`${setting.name}: ${field.validationMessage}`); }
    const number = ["int", "float"].includes(setting.kind);
    const value = setting.kind === "bool" ? field.checked : number ? Number(field.value) : field.value;
    return value === setting.default || (number && field.value === "") ? [] : [[setting.name, value]];
  }));
}

/** A row of the page: a setting's title, its fields, its unit and help. */
export function row(name, help, unit, fields, title = name.replaceAll("_", " ")) {
  fields.forEach((field, index) => {
    field.dataset.control = name;
    field.setAttribute("aria-label", AXES[name] ? `${title}, ${AXES[name][index]}` : field.getAttribute("aria-label") ?? title);
  });
  return make("div", { className: "control" }, make("span", {}, title),
    make("span", { className: "values" }, ...fields), make("span", { className: "hint" }, unit ? `${unit}; ${help}` : help));
}

const helped = ({ help, unset }) => (unset ? `${help}; empty = ${unset}` : help);

function told({ low, high, unit, choices }) {
  if (choices) return "";
  if (low === null) return unit;
  return `${low} to ${high}${unit ? ` ${unit}` : ""}`;
}

function choice(control) {
  const field = make("select", {}, ...control.choices.map((text) => make("option", { value: text }, text)));
  field.value = control.default;
  return field;
}

function numbers(control) {
  return Array.from({ length: control.count }, (_, index) => make("input", {
    type: "number", min: control.low, max: control.high, step: control.kind === "int" ? 1 : "any",
    value: control.default ?? "", placeholder: AXES[control.name]?.[index] ?? "free",
  }));
}

function emotion(about) {
  const name = make("select", {}, make("option", { value: "" }, "free"), ...about.emotions.map((text) => make("option", { value: text }, text)));
  const strength = make("input", { type: "number", min: 0, max: 1, step: "any", placeholder: "0 to 1" });
  strength.setAttribute("aria-label", "emotion, strength 0 to 1");
  return [name, strength];
}
