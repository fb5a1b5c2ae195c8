// The page: loads a model into a worker, talks to it, and writes four continuations at once.

import { Conversation, loadModel } from "./rwkv.js";

const MAX_TOKENS = 400;
const CHAT_SAMPLING = { temperature: 1, topP: 0.3, maxTokens: MAX_TOKENS };
const STREAM_SAMPLING = { temperature: 0.8, topP: 0.9, maxTokens: 200 };
const N_STREAMS = 4;

const element = (id) => document.getElementById(id);

let model = null;
let chat = null;
/** Of the loading, answer or streams in progress; null if there is none. */
let running = null;

// Loading.

element("load-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const [source, vocabulary] = ["address", "vocabulary"].map((id) => element(id).value.trim());
  if (source !== "") void load(source, vocabulary === "" ? undefined : vocabulary);
});
element("files").addEventListener("change", () => loadFiles([...element("files").files]));

const dropZone = element("load");
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  dropZone.classList.add("dropping");
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) dropZone.classList.remove("dropping");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  dropZone.classList.remove("dropping");
  loadFiles([...event.dataTransfer.files]);
});

/** A model, and the vocabulary that lies beside it if it has none inside. */
function loadFiles(files) {
  const isVocabulary = ({ name }) => /\.(txt|json)$/i.test(name);
  const weights = files.filter((file) => !isVocabulary(file));
  if (files.length === 0) return;
  if (weights.length !== 1) {
    fail(
      new Error(
        `Choose one model; ${weights.length === 0 ? "there is none" : `these are ${weights.length}`}.`,
      ),
    );
    return;
  }
  void load(weights[0], files.find(isVocabulary));
}

async function load(source, tokenizer) {
  if (running !== null) return;
  fail(null);
  running = new AbortController();
  const progress = element("progress");
  const began = performance.now();
  element("load-button").disabled = true;
  progress.hidden = false;
  progress.value = 0;
  say("Loading …");
  try {
    const next = await loadModel(source, {
      worker: true,
      device: element("device").value,
      tokenizer,
      signal: running.signal,
      onProgress({ bytesDone, bytesTotal }) {
        progress.value = bytesTotal === 0 ? 0 : bytesDone / bytesTotal;
        say(`Loading … ${megabytes(bytesDone)} of ${megabytes(bytesTotal)}`);
      },
    });
    const nextChat = await Conversation.create(next).catch((error) => {
      next.dispose();
      throw error;
    });
    chat?.dispose();
    model?.dispose();
    model = next;
    chat = nextChat;
    showModel((performance.now() - began) / 1000);
  } catch (error) {
    say(model === null ? "No model yet." : `Still ${model.info.name}.`);
    fail(error);
  } finally {
    progress.hidden = true;
    element("load-button").disabled = false;
    running = null;
  }
}

function showModel(seconds) {
  const { info, config } = model;
  say(`${info.name} is ready, after ${seconds.toFixed(1)} s.`);
  const facts = {
    Model: `RWKV ${config.version}, ${config.nLayer} layers, ${config.nEmbd} wide`,
    "Runs on": info.device,
    Kernels: info.kernels ?? info.backend,
    Threads: String(info.nThreads),
    Weights: megabytes(info.weightByteLength),
    "State of a conversation": megabytes(info.stateByteLength),
    ...(info.fallbackReason === null ? {} : { "Not on a GPU": info.fallbackReason }),
  };
  const list = element("facts");
  list.replaceChildren(
    ...Object.entries(facts).map(([name, value]) => {
      const group = document.createElement("div");
      group.append(made("dt", name), made("dd", value));
      return group;
    }),
  );
  list.hidden = false;
  element("messages").replaceChildren();
  element("outputs").replaceChildren();
  element("work").hidden = false;
  element("message").focus();
}

// Tabs.

const tabs = [element("chat-tab"), element("streams-tab")];
for (const tab of tabs) {
  tab.addEventListener("click", () => select(tab));
  tab.addEventListener("keydown", ({ key }) => {
    if (key === "ArrowLeft" || key === "ArrowRight") select(tabs[1 - tabs.indexOf(tab)]);
  });
}

function select(chosen) {
  for (const tab of tabs) {
    const isChosen = tab === chosen;
    tab.setAttribute("aria-selected", String(isChosen));
    tab.tabIndex = isChosen ? 0 : -1;
    element(tab.getAttribute("aria-controls")).hidden = !isChosen;
  }
  chosen.focus();
}

// Chat.

element("message").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  element("chat-form").requestSubmit();
});
element("chat-form").addEventListener("submit", (event) => {
  event.preventDefault();
  void answer();
});
element("clear").addEventListener("click", () => void beginAnew());

async function answer() {
  const question = element("message").value.trim();
  if (question === "") return;
  await work("send", "stop", async (signal) => {
    element("message").value = "";
    const messages = element("messages");
    const item = made("li", "", "assistant");
    messages.append(made("li", question, "user"), item);
    const thoughts = made("span", "", "thoughts");
    const said = chat.say(question, { ...CHAT_SAMPLING, signal });
    for await (const { text, isThought } of said) {
      if (isThought && thoughts.parentNode === null) item.prepend(thoughts);
      write(isThought ? thoughts : item, text);
      messages.scrollTop = messages.scrollHeight;
    }
    const { usage, timings } = said.result.generation;
    showSpeed("chat-speed", usage.completionTokens, timings.decodeTokensPerSecond);
    if (item.textContent === "") item.append("(no answer)");
  });
}

async function beginAnew() {
  if (running !== null || model === null) return;
  chat.dispose();
  chat = await Conversation.create(model);
  element("messages").replaceChildren();
  element("chat-speed").textContent = "";
}

// Streams: sessions that write at the same time share each step.

element("streams-form").addEventListener("submit", (event) => {
  event.preventDefault();
  void writeStreams();
});

async function writeStreams() {
  const prompt = element("prompt").value;
  await work("run-streams", "stop-streams", async (signal) => {
    const outputs = Array.from({ length: N_STREAMS }, (_, i) => {
      const article = document.createElement("article");
      const text = made("p", "");
      article.append(made("h3", `Stream ${i + 1}`), text);
      return { article, text };
    });
    element("outputs").replaceChildren(...outputs.map(({ article }) => article));
    let nTokens = 0;
    const first = await model.createSession();
    const sessions = [first];
    try {
      // What they have in common is read once.
      await first.append(prompt, { signal });
      while (sessions.length < N_STREAMS) sessions.push(await first.fork());
      const began = performance.now();
      const stream = async (session, i) => {
        const options = { ...STREAM_SAMPLING, seed: i + 1, signal };
        for await (const { text, tokens } of session.generate(null, options)) {
          write(outputs[i].text, text);
          nTokens += tokens.length;
          showSpeed("streams-speed", nTokens, (1000 * nTokens) / (performance.now() - began));
        }
      };
      await Promise.all(sessions.map(stream));
    } finally {
      for (const session of sessions) session.dispose();
    }
  });
}

// What both share.

for (const id of ["stop", "stop-streams"]) element(id).addEventListener("click", () => running?.abort());
document.addEventListener("keydown", ({ key }) => {
  if (key === "Escape") running?.abort();
});

/** One thing at a time, which the stop button ends. */
async function work(startButton, stopButton, task) {
  if (running !== null || model === null) return;
  fail(null);
  running = new AbortController();
  element(startButton).disabled = true;
  element(stopButton).disabled = false;
  const { signal } = running;
  try {
    await task(signal);
  } catch (error) {
    if (!signal.aborted) fail(error);
  } finally {
    element(startButton).disabled = false;
    element(stopButton).disabled = true;
    running = null;
  }
}

/** Appends text; white space before the first of it goes. */
function write(place, text) {
  place.append(place.textContent === "" ? text.trimStart() : text);
}

function showSpeed(id, nTokens, tokensPerSecond) {
  element(id).textContent =
    `${nTokens} tokens, ${tokensPerSecond.toFixed(tokensPerSecond < 10 ? 1 : 0)} a second`;
}

function say(text) {
  element("status").textContent = text;
}

/** Shows an error in words; null clears it. */
function fail(error) {
  const place = element("error");
  place.hidden = error === null;
  place.textContent = error === null ? "" : error.message;
}

function made(tag, text, className = "") {
  const node = document.createElement(tag);
  node.textContent = text;
  if (className !== "") node.className = className;
  return node;
}

function megabytes(bytes) {
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
