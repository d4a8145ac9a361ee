// The page: tabs, and what they share.

import { askJson } from "./server.js";
import { SoundInput } from "./sound.js";
import { PortraitInput } from "./portrait.js";
import { ControlsInput } from "./controls.js";
import { speak } from "./speak.js";
import { FormInput } from "./form.js";
import { perform } from "./perform.js";
import { live } from "./live.js";
import { look } from "./look.js";

const tabs = [...document.querySelectorAll("[role=tab]")];

function show(tab, focus = true) {
  for (const other of tabs) {
    const chosen = other === tab;
    other.setAttribute("aria-selected", chosen);
    other.tabIndex = chosen ? 0 : -1;
    document.getElementById(other.getAttribute("aria-controls")).hidden = !chosen;
  }
  if (focus) tab.focus();
  history.replaceState(null, "", `#${tab.getAttribute("aria-controls")}`);
}

for (const [index, tab] of tabs.entries()) {
  tab.onclick = () => show(tab);
  tab.onkeydown = (event) => {
    const to = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: -1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    show(tabs.at(to % tabs.length));
  };
}
const wanted = tabs.find((tab) => `#${tab.getAttribute("aria-controls")}` === location.hash);
if (wanted) show(wanted, false);

const about = await askJson("v1/about");
function inputs(panel) {
  const find = (name) => panel.querySelector(`[data-${name}]`);
  return {
    portrait: find("portrait") && new PortraitInput(find("portrait"), panel),
    sound: find("sound") && new SoundInput(find("sound"), about, panel.id),
    form: find("form") && new FormInput(find("form"), about, { loops: panel.id === "speak" }),
    controls: find("controls") && new ControlsInput(find("controls"), about, panel.id),
  };
}
for (const [name, begin] of Object.entries({ speak, perform, live, look })) {
  const panel = document.getElementById(name);
  begin(panel, inputs(panel), about);
}
document.body.dataset.ready = "true";
