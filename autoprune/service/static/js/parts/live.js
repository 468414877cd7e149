// News of a search: server-sent events read through fetch (so that a token can go along), polling where that fails.

import { address, get, request } from "../api.js";

const POLL_MS = 2500;
const AGAIN_MS = 20_000;

/** Call `onNews(kind, data)` whenever the search has changed, `onMode("live" | "polling" | "lost")`. Returns a stop. */
export function watch(name, onNews, onMode = () => {}) {
  let control = new AbortController();
  let stopped = false;
  let last = null;

  async function follow(signal) {
    const headers = { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": last } : {}) };
    const response = await request(address(["events"], { search: name }), { headers, signal });
    if (!response.headers.get("content-type")?.startsWith("text/event-stream")) throw new Error("no event stream");
    onMode("live");
    for await (const event of events(response.body)) {
      if (event.id) last = event.id;
      onNews(event.type, event.data);
    }
  }

  async function poll(signal, until) {
    let seen = null;
    while (!signal.aborted && Date.now() < until) {
      try {
        const { updated_at, state, driven } = await get(["searches", name], {}, { signal });
        onMode("polling");
        const now = `${updated_at} ${state} ${driven}`;
        if (seen !== null && seen !== now) onNews("poll", null);
        seen = now;
      } catch (error) {
        if (signal.aborted) return;
        onMode("lost");
      }
      await pause(POLL_MS, signal);
    }
  }

  async function run() {
    let failures = 0;
    while (!stopped && !document.hidden) {
      const { signal } = control;
      const began = Date.now();
      try {
        await follow(signal);
      } catch (error) {
        if (signal.aborted) return;
        if (error.status === 0) onMode("lost");
      }
      if (signal.aborted) return;
      failures = Date.now() - began > 5000 ? 0 : failures + 1;
      if (failures < 2) await pause(500, signal);
      else await poll(signal, Date.now() + AGAIN_MS);
      onNews("again", null);
    }
  }

  const visibility = () => {
    control.abort();
    control = new AbortController();
    if (!document.hidden && !stopped) {
      onNews("again", null);
      run();
    }
  };
  document.addEventListener("visibilitychange", visibility);
  run();
  return () => {
    stopped = true;
    control.abort();
    document.removeEventListener("visibilitychange", visibility);
  };
}

/** Events of a text/event-stream: {type, data (parsed JSON or text), id}. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = parse(block);
      if (event) yield event;
    }
  }
}

function parse(block) {
  const event = { type: "message", data: [], id: null };
  for (const line of block.split("\n")) {
    const [, field, text] = /^([a-z]+): ?(.*)$/.exec(line) ?? [];
    if (field === "event") event.type = text;
    else if (field === "data") event.data.push(text);
    else if (field === "id") event.id = text;
  }
  if (!event.data.length) return null;
  const joined = event.data.join("\n");
  try {
    return { ...event, data: JSON.parse(joined) };
  } catch {
    return { ...event, data: joined };
  }
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      resolve();
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", done);
      resolve();
    }, ms);
    signal.addEventListener("abort", done, { once: true });
  });
}

/** A function that runs `work` at most once in `ms`, and once more when it was called meanwhile. */
export function gathered(work, ms) {
  let waiting = false,
    again = false;
  return async function call() {
    if (waiting) {
      again = true;
      return;
    }
    waiting = true;
    await Promise.allSettled([
      work(),
      new Promise((resolve) => {
        setTimeout(resolve, ms);
      }),
    ]);
    waiting = false;
    if (again) {
      again = false;
      call();
    }
  };
}
