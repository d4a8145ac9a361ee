// Live: opens a session, plays it, and lets it speak.

import { capture } from "./devices.js";
import { ask, askJson, form, make } from "./server.js";
import { Player, Source } from "./player.js";
import { RtcPlayer } from "./rtc.js";
import { spoken, voiceChoice } from "./sound.js";

export function live(panel, { portrait, controls }, about) {
  const find = (name) => panel.querySelector(`#live-${name}`);
  const [video, rest, state, microphone, pause] = ["video", "rest", "state", "microphone", "pause"].map(find);
  const busyWhile = ["change", "close", "microphone", "file", "example", "interrupt", "pause"].map(find);
  let session = null, player = null, input = null, last = null;

  const tell = (text, fault = false) => { state.textContent = text; state.className = fault ? "fault" : "hint"; };
  const tried = (action) => async (event) => {
    event?.preventDefault();
    try { await action(event); } catch (error) { tell(error.message, true); }
  };
  const voice = voiceChoice(about);
  find("text").querySelector("label").after(voice);
  find("connection").disabled = !about.webrtc;
  const enable = (open) => {
    find("open").disabled = open;
    for (const element of busyWhile) element.disabled = !open;
    find("text").hidden = !(open && about.voices.length);
  };

  panel.querySelector("#live-form").onsubmit = tried(async () => {
    find("open").disabled = true;
    tell("opens ... (the first time the server compiles, which takes a while)");
    try {
      const fields = { ...(await portrait.placed()), controls: controls.text() };
      session = await askJson("v1/live", { method: "POST", body: form(fields) });
    } catch (error) {
      find("open").disabled = false;
      throw error;
    }
    enable(true);
    tell(`This machine draws about ${session.rate} frames a second, ${session.hop.toFixed(1)} s at once.`);
    play(about.webrtc && (find("connection").value === "webrtc" || !Source));
    video.scrollIntoView({ block: "nearest" });
  });

  /** Plays the session; over the WebSocket where nothing comes by WebRTC. */
  function play(webrtc) {
    const on = {
      hop: (hop) => { last = hop; },
      end: (reason, seen = true) => {
        stopMicrophone();
        if (!seen && session) { tell(`${reason}; now over the WebSocket`); play(false); return; }
        enable(false);
        session = player = null;
        tell(`ended: ${reason}`);
        pause.setAttribute("aria-pressed", "false");
      },
    };
    panel.player = player = webrtc ? new RtcPlayer(video, session.socket, on) : new Player(video, rest, session.socket, on);
  }

  find("change").onclick = tried(async () => {
    await ask(`${session.socket}/controls`, { method: "PUT", body: form({ controls: controls.text() }) });
    await ask(`${session.socket}/portrait`, { method: "PUT", body: form(await portrait.placed()) });
    tell("changed");
  });
  find("close").onclick = tried(() => ask(session.socket, { method: "DELETE" }));
  const say = async (file) => {
    const { seconds } = await askJson(`${session.socket}/sound`, { method: "POST", body: form({ sound: file }) });
    player.say(seconds);
    tell(`says ${file[1]}, ${seconds.toFixed(1)} s`);
  };
  find("file").onchange = tried(async ({ target }) => {
    if (target.files[0]) await say([target.files[0], target.files[0].name]);
    target.value = "";
  });
  find("example").onclick = tried(async () => say([await (await ask("v1/examples/sound")).blob(), "the shipped sentence"]));
  find("text").onsubmit = tried(async () => {
    const field = find("text").querySelector("input");
    await say([await spoken(field.value, voice.value), "the text"]);
    field.value = "";
  });
  find("interrupt").onclick = () => player?.interrupt();
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && player && !panel.hidden) player.interrupt(); });
  pause.onclick = () => {
    const paused = pause.getAttribute("aria-pressed") !== "true";
    pause.setAttribute("aria-pressed", paused);
    player?.send({ type: paused ? "pause" : "resume" });
  };

  microphone.onclick = tried(async () => {
    if (input) { stopMicrophone(); return; }
    const stream = await capture("microphone", { audio: true }, "say a file");
    microphone.setAttribute("aria-pressed", "true");
    if (player.listen) {
      input = { stream };
      await player.listen(stream);
      return;
    }
    const context = new AudioContext();
    await context.audioWorklet.addModule("microphone.js");
    const node = new AudioWorkletNode(context, "microphone");
    node.port.onmessage = ({ data }) => player?.hear(data, context.sampleRate);
    context.createMediaStreamSource(stream).connect(node).connect(context.destination); // silent, but without it nothing runs
    input = { stream, context };
  });
  function stopMicrophone() {
    input?.stream.getTracks().forEach((track) => track.stop());
    input?.context?.close();
    if (player?.listen && !player.over) player.listen(null);
    input = null;
    microphone.setAttribute("aria-pressed", "false");
  }

  const milliseconds = (value) => (value === null ? "–" : `${Math.round(1000 * value)} ms`);
  setInterval(() => {
    if (!player || !last) return;
    const now = player.report();
    const rows = {
      "frames drawn per second": last.rate, "made at once": `${last.seconds} s`, "server's load": `${Math.round(100 * last.load)} %`,
      "behind the clock": `${last.behind.toFixed(1)} s`, "steps of the solver": last.steps,
      "cores in use": last.cores, "live sessions": last.sessions,
      ...(last.gpu === null ? {} : { "GPU at work": `${Math.round(100 * last.gpu)} %` }),
      ...(last.device_memory === null ? {} : { "memory of the accelerator": `${(last.device_memory / 2 ** 30).toFixed(2)} GiB` }),
      "first frame": milliseconds(now.firstFrame), "microphone to picture": milliseconds(now.latency),
      "picture over sound": milliseconds(now.skew), stalls: now.stalls, "sound that waits": `${last.waiting.toFixed(1)} s`,
      "interruption to new stream": milliseconds(now.interrupt),
    };
    find("figures").firstElementChild.replaceChildren(...Object.entries(rows).map(([name, value]) => make("tr", {}, make("td", {}, name), make("td", {}, `${value}`))));
    panel.figures = now;
  }, 1000);
  window.addEventListener("pagehide", () => { if (session) fetch(session.socket, { method: "DELETE", keepalive: true }); });
}
