// A node: it stays connected, keeps the models that it was sent, answers asks with what `client` computes.
"use strict";
const { randomBytes } = require("node:crypto");
const { Leaf, readBuffer, readRecord, sha256, writeRecord } = require("./formats");
const { hostAndPort } = require("./join");
const stream = require("./stream");

const VERSION = 1;
const AT_ONCE_BYTES = 16 * 1024;
const CHUNK_BYTES = 256 * 1024;
const BLOBS_KEPT = 4;
const MAX_MESSAGE_BYTES = 2 ** 30;
const FIRST_WAIT_MS = 200;
const LONGEST_WAIT_MS = 30_000;

const turnOf = ({ run, round, attempt }) => `${run}/${round}/${attempt}`;

class Node {
  /** `client`: `{apps, fit(model, settings, turn), evaluate(model, settings)}`; see example/heart.js. */
  constructor(identity, client, log) {
    Object.assign(this, { identity, client, log });
    this.boot = randomBytes(16);
    this.plans = new Map(); // run → plan
    this.blobs = new Map(); // digest → arrays, newest last
    this.partial = new Map(); // digest → the bytes that came so far; outlives a connection
    this.answers = new Map(); // turn and kind → frame, until it is settled
    this.working = new Map(); // turn and kind → {cancelled}
    this.stream = null;
  }

  /** Take part until the server says that nothing is left, coming back after each lost connection. */
  async takePart() {
    const { scheme } = hostAndPort(this.identity.address); // what is no address is found here, not tried for ever
    for (let wait = FIRST_WAIT_MS; ; wait = Math.min(2 * wait, LONGEST_WAIT_MS)) {
      this.goodbye = null;
      // gRPC is loaded where it is used: a client that speaks TCP needs no package of it.
      const { connect } = scheme === "grpc" ? require("./grpc") : stream;
      const reason = await connect(this.identity.address, this.identity, {
        opened: (stream) => this.opened(stream),
        heard: (kind, fields) => this[`on_${kind}`]?.(fields), // kinds that are not known are ignored
      });
      clearInterval(this.beat);
      if (this.welcomed) wait = FIRST_WAIT_MS;
      this.stream = null;
      this.welcomed = false;
      if (this.goodbye?.refused) throw new Error(`the server refuses this node: ${this.goodbye.reason}`);
      if (this.goodbye?.finished) return this.goodbye.reason;
      this.log(`connection lost: ${reason}`);
      const pause = Math.max(wait * (0.5 + Math.random()), this.goodbye?.retryMs ?? 0);
      await new Promise((done) => setTimeout(done, pause));
    }
  }

  opened(stream) {
    this.stream = stream;
    this.incoming = new Map(); // numbers of messages end with their stream
    this.outgoing = new Map();
    this.waiting = [];
    this.lastId = 0;
    const about = JSON.stringify({ apps: this.client.apps });
    stream.say("hello", { version: VERSION, oldest: VERSION, name: this.identity.name, boot: this.boot, about });
  }

  on_welcome({ heartbeatMs }) {
    this.welcomed = true;
    this.log(`connected to ${this.identity.address}`);
    this.stream.quiet(3 * heartbeatMs);
    this.beat = setInterval(() => this.stream?.say("ping", { number: 0 }), heartbeatMs / 2);
  }

  on_goodbye(packet) {
    this.goodbye = packet;
    this.stream.end(packet.reason);
  }

  on_ping({ number }) {
    this.stream.say("pong", { number });
  }

  // What the server sends.

  on_announce(about) {
    const digest = about.digest.toString("hex");
    if (about.kind === "blob" && this.blobs.has(digest)) return this.stream.say("acknowledge", { id: about.id });
    if (about.size > MAX_MESSAGE_BYTES) return this.stream.say("refuse", { id: about.id, reason: "too large for this node" });
    if (about.data.length === about.size) return this.arrived(about, about.data);
    const parts = this.partial.get(digest) ?? { size: 0, list: [] };
    this.partial.set(digest, parts);
    this.incoming.set(about.id, { about, parts });
    this.stream.say("grant", { id: about.id, offset: parts.size, limit: about.size });
  }

  on_chunk({ id, data }) {
    const { about, parts } = this.incoming.get(id);
    parts.list.push(data);
    parts.size += data.length;
    if (parts.size < about.size) return;
    this.incoming.delete(id);
    this.partial.delete(about.digest.toString("hex"));
    this.arrived(about, Buffer.concat(parts.list));
  }

  on_withdraw({ id }) {
    const found = this.incoming.get(id);
    if (found) this.partial.delete(found.about.digest.toString("hex"));
    this.incoming.delete(id);
  }

  arrived(about, bytes) {
    if (!sha256(bytes).equals(about.digest)) throw new Error(`a ${about.kind} was damaged on its way`);
    this.stream.say("acknowledge", { id: about.id });
    if (about.kind === "plan") this.planned(readRecord(bytes).plan);
    else if (about.kind === "blob") this.held(about.digest.toString("hex"), readBuffer(bytes));
    else if (about.kind === "ask") this.asked(readRecord(bytes));
    else if (about.kind === "retire") this.retired(about.run);
  }

  planned(plan) {
    this.plans.set(plan.run, plan);
    const { name, shared } = plan.client_half;
    const able = name === "FedAvg" && !shared;
    const verdict = able ? "done" : "unwilling";
    const reason = able ? "" : `this client knows FedAvg over whole models, not ${name}`;
    const facts = able ? { capabilities: ["fit", "evaluate"], schema: null } : {};
    const turn = { run: plan.run, round: 0, attempt: 0, kind: "properties" };
    this.send("ready", turn, writeRecord("answer", this.answer(turn, { verdict, reason, facts })));
  }

  held(digest, arrays) {
    this.blobs.set(digest, arrays);
    if (this.blobs.size > BLOBS_KEPT) this.blobs.delete(this.blobs.keys().next().value);
    const waiting = this.waiting;
    this.waiting = [];
    for (const ask of waiting) this.asked(ask);
  }

  retired(run) {
    this.plans.delete(run);
    for (const key of this.answers.keys()) if (key.startsWith(`${run}/`)) this.answers.delete(key);
    for (const [key, turn] of this.working) if (key.startsWith(`${run}/`)) turn.cancelled = true;
  }

  // What this node is asked.

  asked(ask) {
    const key = `${turnOf(ask)}/${ask.kind}`;
    const kept = this.answers.get(key);
    if (kept) return this.send("answer", ask, kept);
    if (this.working.has(key)) return; // it came again after a reconnection: the work goes on
    if (!this.blobs.has(ask.model)) {
      // An ask is small and overtakes the model that it speaks of; one that is not on its way is asked for.
      const coming = [...this.incoming.values()].some(({ about }) => about.digest.toString("hex") === ask.model);
      if (!coming) this.stream.say("want", { digest: Buffer.from(ask.model, "hex"), run: ask.run });
      this.waiting.push(ask);
      return;
    }
    this.work(key, ask, this.blobs.get(ask.model));
  }

  async work(key, ask, model) {
    const turn = { cancelled: false, round: ask.round };
    this.working.set(key, turn);
    const began = performance.now();
    const found = await this.outcome(ask, model, turn);
    this.working.delete(key);
    if (turn.cancelled) return;
    const frame = writeRecord("answer", this.answer(ask, { ...found, seconds: (performance.now() - began) / 1000 }));
    if (ask.kind === "fit") this.answers.set(key, frame);
    if (this.welcomed) this.send("answer", ask, frame);
  }

  async outcome(ask, model, turn) {
    const settings = { ...this.plans.get(ask.run)?.settings, ...ask.config };
    try {
      if (ask.kind === "fit") return updateOf(model, await this.client.fit(copied(model), settings, turn));
      if (ask.kind === "evaluate") return await this.client.evaluate(copied(model), settings);
      return { verdict: "unwilling", reason: `this client does not answer '${ask.kind}'` };
    } catch (error) {
      return { verdict: "failed", reason: String(error).slice(0, 2000) };
    }
  }

  answer({ run, round, attempt, kind }, more) {
    const who = { run, round, attempt, kind, client: this.identity.name };
    return { ...who, verdict: "done", reason: "", seconds: 0, has_state: false, warnings: [], facts: {}, ...more };
  }

  on_cancel(packet) {
    const turn = this.working.get(`${turnOf(packet)}/${packet.kind}`);
    if (turn) turn.cancelled = true;
    this.waiting = this.waiting.filter((ask) => turnOf(ask) !== turnOf(packet) || ask.kind !== packet.kind);
  }

  on_settled(packet) {
    this.answers.delete(`${turnOf(packet)}/fit`);
  }

  // What this node sends.

  send(kind, { run, round, attempt }, bytes) {
    const id = ++this.lastId;
    const data = bytes.length <= AT_ONCE_BYTES ? bytes : Buffer.alloc(0);
    this.outgoing.set(id, { bytes, sent: null });
    this.stream.say("announce", { id, kind, size: bytes.length, digest: sha256(bytes), run, data, round, attempt });
  }

  on_grant({ id, offset, limit }) {
    const message = this.outgoing.get(id);
    if (!message) return;
    // Only a message's first grant says where to begin; later ones raise the limit.
    let at = message.sent ?? offset;
    for (; at < limit; at += CHUNK_BYTES) {
      this.stream.say("chunk", { id, offset: at, data: message.bytes.subarray(at, Math.min(at + CHUNK_BYTES, limit)) });
    }
    message.sent = Math.max(limit, message.sent ?? 0);
  }

  on_acknowledge({ id }) {
    this.outgoing.delete(id);
  }

  on_refuse({ id, reason }) {
    this.outgoing.delete(id);
    this.log(`the server does not want an answer: ${reason}`);
  }
}

const copied = (arrays) => arrays.map((array) => ({ ...array, data: array.data.slice() }));

/** FedAvg's half of a client: new minus old of what is trained or averaged; integers become I64. */
function updateOf(before, { arrays, examples, steps, metrics = {} }) {
  const travels = arrays.map((array, i) => [before[i], array]).filter(([{ role }]) => role === "trained" || role === "averaged");
  const delta = travels.map(([old, array]) => {
    if (/^B?F16$/.test(old.dtype)) throw new Error(`array '${old.name}' is ${old.dtype}; this client computes with F32 and F64`);
    if (old.dtype.startsWith("F")) return { ...old, data: array.data.map((value, i) => value - old.data[i]) };
    const whole = BigInt64Array.from(array.data, (value, i) => BigInt(value) - BigInt(old.data[i]));
    return { ...old, dtype: "I64", data: whole };
  });
  return { examples, steps, metrics, groups: { delta: { weight: examples, arrays: new Leaf(delta) } } };
}

module.exports = { Node, updateOf };
