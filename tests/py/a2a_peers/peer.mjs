// An A2A server made of the official JavaScript SDK, for the tests of the client.
//
//     node peer.mjs FOLDER [--legacy] [--sign EdDSA|ES256]
//
// FOLDER holds node_modules with @a2a-js/sdk (0.2, 0.3 or 1.x) and express. Prints one
// line of JSON, {"url": ..., "sdk": ...}, once it listens on a free port of 127.0.0.1,
// and ends when its standard input does. --legacy: a 1.x server that speaks 0.3 too.
// --sign: its card carries a JWS; the line then has the public key as "jwk".
// What the skills do is told in README.md beside this file.

import { generateKeyPairSync, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { setTimeout as sleep } from "node:timers/promises";

const [folder, ...flags] = process.argv.slice(2);
const home = resolve(folder, "node_modules", "@a2a-js", "sdk");
const sdkVersion = JSON.parse(readFileSync(join(home, "package.json"))).version;
const modern = sdkVersion.startsWith("1.");
// The modules, not their CommonJS twins: those do not share their error classes.
const load = (...path) => import(pathToFileURL(join(home, "dist", ...path, "index.js")));
const sdk = await load();
const server = await load("server");

// ---- the wire forms of the versions ------------------------------------------

const upper = (state) => "TASK_STATE_" + state.toUpperCase().replace("-", "_");

const part = {
  text: (text) => (modern ? { text } : { kind: "text", text }),
  data: (data) => (modern ? { data } : { kind: "data", data }),
  file(name, mimeType, where) {
    if (!modern) return { kind: "file", file: { name, mimeType, ...where } };
    const content = where.bytes ? { raw: where.bytes } : { url: where.uri };
    return { ...content, filename: name, mediaType: mimeType };
  },
};

// What a skill may say about its task. The older SDKs take objects as they go over
// the wire, the newer one takes what its own parsers make of them.
class Voice {
  constructor(bus, taskId, contextId) {
    Object.assign(this, { bus, taskId, contextId, stopped: false });
  }

  say(kind, type, event) {
    if (modern) {
      const name = kind.replace(/-u/, "U");
      this.bus.publish({ kind: name, data: sdk[type].fromJSON(event) });
    } else this.bus.publish({ kind, ...event });
  }

  message(text) {
    const { taskId, contextId } = this;
    const role = modern ? "ROLE_AGENT" : "agent";
    const message = { messageId: randomUUID(), role, parts: [part.text(text)], taskId, contextId };
    return modern ? message : { kind: "message", ...message };
  }

  stamp(state, text) {
    const message = text === undefined ? {} : { message: this.message(text) };
    const timestamp = new Date().toISOString();
    return { state: modern ? upper(state) : state, timestamp, ...message };
  }

  begin(userMessage) {
    const { taskId, contextId } = this;
    const status = this.stamp("submitted");
    this.say("task", "Task", { id: taskId, contextId, status, history: [userMessage], artifacts: [] });
  }

  reply(text) {
    const { taskId, ...message } = this.message(text);
    this.say("message", "Message", message);
  }

  status(state, text) {
    const { taskId, contextId } = this;
    const final = !["submitted", "working"].includes(state);
    const event = { taskId, contextId, status: this.stamp(state, text) };
    this.say("status-update", "TaskStatusUpdateEvent", modern ? event : { ...event, final });
  }

  artifact(artifactId, parts, { append = false, lastChunk = true } = {}) {
    const { taskId, contextId } = this;
    const artifact = { artifactId, name: artifactId, parts };
    const event = { taskId, contextId, artifact, append, lastChunk };
    this.say("artifact-update", "TaskArtifactUpdateEvent", event);
  }
}

// ---- skills ------------------------------------------------------------------

const skills = {
  async echo(voice, words, message) {
    voice.artifact("echo", message.parts);
    voice.status("completed");
  },

  async message(voice, words) {
    voice.reply("you said: " + words.join(" "));
  },

  async count(voice, [times = "5", pause = "10"]) {
    for (let i = 1; i <= Number(times); i++) {
      voice.status("working", String(i));
      await sleep(Number(pause));
      if (voice.stopped) return;
    }
    voice.status("completed");
  },

  async chunks(voice, [pause = "10"]) {
    voice.status("working");
    const pieces = ["one ", "two ", "three"];
    for (const [i, text] of pieces.entries()) {
      voice.artifact("report", [part.text(text)], { append: i > 0, lastChunk: i === 2 });
      await sleep(Number(pause));
    }
    voice.artifact("table", [part.data({ rows: 3 })]);
    voice.status("completed");
  },

  async parts(voice) {
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i)).toString("base64");
    voice.artifact("parts", [
      part.text("Grüße\u2028漢字 😀"),
      part.file("all.bin", "application/octet-stream", { bytes }),
      part.file("far.png", "image/png", { uri: "https://example.com/far.png" }),
      part.data({ list: [1, 2.5, null, true, "x"], deep: { empty: {} } }),
    ]);
    voice.status("completed");
  },

  async slow(voice) {
    voice.status("working");
    for (let i = 0; i < 3000 && !voice.stopped; i++) await sleep(10);
    if (!voice.stopped) voice.status("completed");
  },

  async fail(voice) {
    voice.status("working");
    voice.status("failed", "it went wrong");
  },

  async crash() {
    throw new Error("the skill broke");
  },

  async ask(voice, words, message, resumed) {
    if (!resumed) return voice.status("input-required", "which color?");
    const answer = message.parts.map((p) => p.text).join("");
    voice.artifact("answer", [part.text(answer)]);
    voice.status("completed");
  },
};

class Executor {
  voices = new Map();

  execute = async (context, bus) => {
    const { taskId, contextId, task } = context;
    const message = modern ? sdk.Message.toJSON(context.userMessage) : context.userMessage;
    const previous = this.voices.get(taskId);
    const voice = new Voice(bus, taskId, contextId);
    this.voices.set(taskId, voice);
    const words = message.parts.map((p) => p.text ?? "").join(" ").split(/\s+/).filter(Boolean);
    voice.skill = previous?.skill ?? message.metadata?.ruvector?.skill ?? words.shift() ?? "echo";
    if (voice.skill !== "message") {
      if (!task) voice.begin(message);
      else if (modern) bus.publish({ kind: "task", data: task });
    }
    const skill = skills[voice.skill];
    if (skill) await skill(voice, words, message, task !== undefined);
    else voice.status("rejected", `no skill ${voice.skill}`);
    if (!modern) bus.finished();
  };

  cancelTask = async (taskId) => {
    const voice = this.voices.get(taskId);
    voice.stopped = true;
    voice.status("canceled");
  };
}

// ---- the card ----------------------------------------------------------------

function card(url) {
  const about = {
    name: "JavaScript peer",
    description: "Tests of the client: Grüße, 漢字",
    version: "1.0.0",
    provider: { organization: "tests", url: "https://example.com" },
    capabilities: { streaming: true, pushNotifications: false },
    defaultInputModes: ["text/plain"],
    defaultOutputModes: ["text/plain"],
    skills: Object.keys(skills).map((id) => ({ id, name: id, description: id, tags: ["test"] })),
  };
  if (!modern) {
    const marker = sdkVersion.startsWith("0.2") ? {} : { protocolVersion: "0.3.0" };
    return { ...about, ...marker, url: url + rpcPath, preferredTransport: "JSONRPC" };
  }
  const versions = flags.includes("--legacy") ? ["1.0", "0.3"] : ["1.0"];
  const supportedInterfaces = versions.flatMap((protocolVersion) => [
    { url: url + rpcPath, protocolBinding: "JSONRPC", protocolVersion },
    { url: url + "/rest", protocolBinding: "HTTP+JSON", protocolVersion },
  ]);
  return sdk.AgentCard.fromJSON({ ...about, supportedInterfaces });
}

async function signer(alg) {
  const options = alg === "EdDSA" ? ["ed25519"] : ["ec", { namedCurve: "P-256" }];
  const { privateKey, publicKey } = generateKeyPairSync(...options);
  const header = { alg, kid: "test-key", typ: "JOSE" };
  const jwk = { ...publicKey.export({ format: "jwk" }), kid: header.kid, alg };
  return { jwk, sign: await sdk.generateAgentCardSignature(privateKey, header) };
}

// ---- the server --------------------------------------------------------------

const rpcPath = sdkVersion.startsWith("0.2") ? "/" : "/a2a";
const express = createRequire(resolve(folder, "package.json"))("express");
const app = express();
const listener = app.listen(0, "127.0.0.1", async () => {
  const url = `http://127.0.0.1:${listener.address().port}`;
  const line = { url, sdk: `@a2a-js/sdk ${sdkVersion}` };
  const extra = [];
  if (flags.includes("--sign")) {
    const { jwk, sign } = await signer(flags[flags.indexOf("--sign") + 1]);
    line.jwk = jwk;
    extra.push(undefined, undefined, undefined, undefined, sign);
  }
  const store = new server.InMemoryTaskStore();
  const requestHandler = new server.DefaultRequestHandler(card(url), store, new Executor(), ...extra);
  if (sdkVersion.startsWith("0.2")) {
    new server.A2AExpressApp(requestHandler).setupRoutes(app, "");
  } else {
    const { UserBuilder, agentCardHandler, jsonRpcHandler, restHandler } = await load("server", "express");
    const legacyCompat = flags.includes("--legacy") ? { enabled: true } : undefined;
    const options = { requestHandler, userBuilder: UserBuilder.noAuthentication, legacyCompat };
    app.use("/.well-known/agent-card.json", agentCardHandler({ agentCardProvider: requestHandler, legacyCompat }));
    app.use(rpcPath, jsonRpcHandler(options));
    app.use("/rest", restHandler(options));
  }
  console.log(JSON.stringify(line));
});

process.stdin.resume().on("end", () => process.exit(0));
