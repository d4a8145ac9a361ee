// Requests to this server; asks for the key where one is needed.

const dialog = document.getElementById("key-dialog");
let asking = null;

function askForKey() {
  asking ??= new Promise((resolve) => {
    const field = document.getElementById("key"), fault = document.getElementById("key-fault");
    dialog.oncancel = (event) => event.preventDefault();
    dialog.querySelector("form").onsubmit = async (event) => {
      event.preventDefault();
      const answer = await fetch("v1/login", {
        method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ key: field.value }),
      });
      if (!answer.ok) { fault.textContent = await faultOf(answer); return; }
      field.value = "";
      dialog.close();
      asking = null;
      resolve();
    };
    dialog.showModal();
  });
  return asking;
}

async function faultOf(answer) {
  try {
    const { detail } = await answer.json();
    return detail;
  } catch {
    return `the server answered ${answer.status}`;
  }
}

/** Returns an answer; throws an Error with one line for a refusal. */
export async function ask(path, options = {}) {
  for (;;) {
    let answer;
    try {
      answer = await fetch(path, options);
    } catch {
      throw new Error("the server does not answer; is it running?");
    }
    if (answer.status === 401) { await askForKey(); continue; }
    if (!answer.ok) throw new Error(await faultOf(answer));
    return answer;
  }
}

export const askJson = async (path, options) => (await ask(path, options)).json();

/** Returns a form of fields; files are [blob, name]. */
export function form(fields) {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (Array.isArray(value)) data.append(name, value[0], value[1]);
    else if (value !== "" && value !== undefined) data.append(name, value);
  }
  return data;
}

/** Returns an element: make("p", { className: "hint" }, "text", child). */
export function make(kind, properties = {}, ...children) {
  const element = Object.assign(document.createElement(kind), properties);
  element.append(...children);
  return element;
}
