// The server. A token, where one is asked for, stays in this tab (sessionStorage) and travels in a header.

const ROOT = "/api/v1";
const KEPT = "autoprune-token";

let asking = null;
let ask = () => Promise.resolve(null);

/** How the page asks its user for a token: a function that resolves with it, or with null. */
export function askWith(call) {
  ask = call;
}

/** An answer that is not a success: status, message and hint as the server words them. */
export class Refused extends Error {
  constructor(status, code, message, hint, body) {
    super(message);
    Object.assign(this, { status, code, hint, body });
  }
}

/** The address of a route; parts are encoded, and `params` may hold lists. */
export function address(parts, params = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "") query.append(name, each);
    }
  }
  const path = [ROOT, ...parts.map((part) => encodeURIComponent(part))].join("/");
  return query.size ? `${path}?${query}` : path;
}

/** The raw response of a request that succeeded. Raises Refused; asks for a token where one is missing or too weak. */
export async function request(url, options = {}) {
  for (let attempt = 0; ; attempt++) {
    const sent = sessionStorage.getItem(KEPT);
    const response = await reach(url, options, sent);
    if (response.ok) return response;
    const error = await refusal(response);
    const wanting = response.status === 401 || (response.status === 403 && error.code === "forbidden");
    if (!wanting || attempt > 2 || options.quiet) throw error;
    if (sessionStorage.getItem(KEPT) === sent && !(await token(error))) throw error;
  }
}

async function reach(url, { method = "GET", json, body, signal, headers = {} }, sent) {
  const all = { ...headers };
  if (sent) all.Authorization = `Bearer ${sent}`;
  if (json !== undefined) all["Content-Type"] = "application/json";
  try {
    return await fetch(url, {
      method,
      headers: all,
      body: json === undefined ? body : JSON.stringify(json),
      signal,
      credentials: "omit",
      cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "unreachable", "the server does not answer.", "Is 'autoprune serve' still running?", null);
  }
}

async function refusal(response) {
  const body = await response.json().catch(() => null);
  const error = body?.error ?? {};
  const message = error.message ?? `the server answered ${response.status}.`;
  return new Refused(response.status, error.code ?? "failed", message, error.hint ?? "", body);
}

/** Ask once, however many requests wait for the answer. */
async function token(error) {
  asking ??= ask(error).finally(() => {
    asking = null;
  });
  const given = await asking;
  if (given) sessionStorage.setItem(KEPT, given);
  return given;
}

export async function get(parts, params, options) {
  return (await request(address(parts, params), options)).json();
}

export async function post(parts, json, options = {}) {
  return (await request(address(parts), { method: "POST", json, ...options })).json();
}
