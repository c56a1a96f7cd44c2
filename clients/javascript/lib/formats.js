// Buffers, frames and trees, as docs/format.md has them. Pure functions: bytes in, values out, and back.
"use strict";
const { createHash } = require("node:crypto");

// dtype → the typed array that holds its items. Halves have none in JavaScript: their bits are kept.
const TYPES = {
  F64: Float64Array, F32: Float32Array, F16: Uint16Array, BF16: Uint16Array,
  I64: BigInt64Array, I32: Int32Array, I16: Int16Array, I8: Int8Array,
  U64: BigUint64Array, U32: Uint32Array, U16: Uint16Array, U8: Uint8Array, BOOL: Uint8Array,
};
const ROLES = ["trained", "averaged", "frozen", "private"];
const MAGIC = Buffer.from("UMBL");
const SEAL_BYTES = 32;

const sha256 = (bytes) => createHash("sha256").update(bytes).digest();

function padded(bytes, start, fill) {
  const missing = (64 - ((start + bytes.length) % 64)) % 64;
  return missing ? Buffer.concat([bytes, Buffer.alloc(missing, fill)]) : bytes;
}

function need(condition, sentence) {
  if (!condition) throw new Error(sentence);
}

function uint64(bytes, at) {
  need(bytes.length >= at + 8, "the bytes end before a length; they were cut");
  const value = Number(bytes.readBigUInt64LE(at));
  need(at + 8 + value <= bytes.length, "a header is said to be longer than all bytes; they were cut or damaged");
  return value;
}

/** Arrays `[{name, dtype, shape, role, data}]` of a buffer, in the order of its header. */
function readBuffer(bytes) {
  const start = 8 + uint64(bytes, 0);
  const text = bytes.toString("utf8", 8, start);
  const header = JSON.parse(text);
  const roles = JSON.parse(header.__metadata__?.["umbel.roles"] ?? "{}");
  return namesIn(text).map((name) => {
    const { dtype, shape, data_offsets: [begin, end] } = header[name];
    const type = TYPES[dtype];
    const size = shape.reduce((product, side) => product * side, 1) * (type?.BYTES_PER_ELEMENT ?? 0);
    need(type && end - begin === size && start + end <= bytes.length, `array '${name}' does not fit its dtype and shape`);
    // A copy: typed arrays must lie at multiples of their item size, and are the caller's to write to.
    const copy = new Uint8Array(bytes.subarray(start + begin, start + end));
    return { name, dtype, shape, role: roles[name] ?? "trained", data: new type(copy.buffer) };
  });
}

/** The names in a header's text as they stand there: objects of JavaScript have those like "0" first. */
function namesIn(text) {
  const names = [];
  let depth = 0;
  for (const [token, colon] of text.matchAll(/"(?:\\.|[^"\\])*"(\s*:)?|[{}[\]]/g)) {
    if ("{[".includes(token)) depth++;
    else if ("}]".includes(token)) depth--;
    else if (depth === 1 && colon) names.push(JSON.parse(token.slice(0, -colon.length)));
  }
  return names.filter((name) => name !== "__metadata__");
}

/** The buffer of such arrays; equal arrays have equal bytes. */
function writeBuffer(arrays) {
  const rank = ({ dtype, role = "trained" }) => [-TYPES[dtype].BYTES_PER_ELEMENT, dtype, ROLES.indexOf(role)];
  const before = (one, other) => {
    const [a, b] = [rank(one), rank(other)];
    const at = a.findIndex((value, i) => value !== b[i]);
    return at < 0 ? 0 : a[at] < b[at] ? -1 : 1;
  };
  const offsets = new Map();
  const parts = [];
  let end = 0;
  for (const array of [...arrays].sort(before)) {
    const { data } = array;
    parts.push(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
    offsets.set(array.name, [end, (end += data.byteLength)]);
  }
  const roles = arrays.filter(({ role = "trained" }) => role !== "trained").map(({ name, role }) => [name, role]);
  // Pairs, not an object: JavaScript would move names such as "0" to the front.
  const entries = roles.length ? [["__metadata__", { "umbel.roles": table(roles) }]] : [];
  for (const { name, dtype, shape } of arrays) entries.push([name, { dtype, shape, data_offsets: offsets.get(name) }]);
  const header = padded(Buffer.from(table(entries)), 8, " ");
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, ...parts]);
}

const table = (pairs) => `{${pairs.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(",")}}`;

/** `{kind, body, buffers}` of a frame whose seal is right. */
function readFrame(bytes) {
  need(bytes.length >= 16 + SEAL_BYTES && bytes.subarray(0, 4).equals(MAGIC), "these bytes are no frame");
  need(bytes.readUInt16LE(4) === 1, `a frame of format ${bytes.readUInt16LE(4)}; this client reads format 1`);
  const sealed = bytes.length - SEAL_BYTES;
  need(sha256(bytes.subarray(0, sealed)).equals(bytes.subarray(sealed)), "a frame was damaged on its way");
  let at = 16 + uint64(bytes, 8);
  const header = JSON.parse(bytes.toString("utf8", 16, at));
  const buffers = header.buffers.map((length) => {
    const buffer = bytes.subarray(at, at + length);
    at += Math.ceil(length / 64) * 64;
    return buffer;
  });
  need(at === sealed, "a frame has other lengths than its header says");
  return { kind: header.kind, body: header.body, buffers };
}

function writeFrame({ kind, body, buffers = [] }) {
  const text = JSON.stringify({ kind, body, buffers: buffers.map((buffer) => buffer.length) });
  const header = padded(Buffer.from(text), 16, " ");
  const start = Buffer.alloc(16);
  MAGIC.copy(start);
  start.writeUInt16LE(1, 4);
  start.writeBigUInt64LE(BigInt(header.length), 8);
  const whole = Buffer.concat([start, header, ...buffers.map((buffer) => padded(buffer, 0, 0))]);
  return Buffer.concat([whole, sha256(whole)]);
}

/** Plain data as JSON has it → as JavaScript has it: bytes and the floats that JSON lacks. */
function readPlain(value) {
  if (Array.isArray(value)) return value.map(readPlain);
  if (value === null || typeof value !== "object") return value;
  if ("$bytes" in value) return Buffer.from(value.$bytes, "base64");
  if ("$float" in value) return { nan: NaN, inf: Infinity, "-inf": -Infinity }[value.$float];
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, readPlain(item)]));
}

function writePlain(value) {
  if (typeof value === "number" && !Number.isFinite(value)) {
    return { $float: Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf" };
  }
  if (Buffer.isBuffer(value)) return { $bytes: value.toString("base64") };
  if (Array.isArray(value)) return value.map(writePlain);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, writePlain(item)]));
}

/** A leaf of a tree that holds arrays; everything else is a map or plain data. */
class Leaf {
  constructor(arrays) {
    this.arrays = arrays;
  }
}

function readTree(node, buffers) {
  const [kind, content] = node;
  if (kind === "plain") return readPlain(content);
  if (kind === "arrays") return new Leaf(readBuffer(buffers[content]));
  if (kind === "array") return readBuffer(buffers[content])[0];
  need(kind === "map", `a tree holds '${kind}', which this client does not know`);
  return Object.fromEntries(Object.entries(content).map(([key, item]) => [key, readTree(item, buffers)]));
}

function writeTree(value, buffers) {
  if (value instanceof Leaf) return ["arrays", buffers.push(writeBuffer(value.arrays)) - 1];
  if (value === null || typeof value !== "object" || Array.isArray(value) || Buffer.isBuffer(value)) {
    return ["plain", writePlain(value)];
  }
  return ["map", Object.fromEntries(Object.entries(value).map(([key, item]) => [key, writeTree(item, buffers)]))];
}

/** A frame's bytes → its tree, and back. */
function readRecord(bytes) {
  const { body, buffers } = readFrame(bytes);
  return readTree(body, buffers);
}

function writeRecord(kind, tree) {
  const buffers = [];
  return writeFrame({ kind, body: writeTree(tree, buffers), buffers });
}

module.exports = { Leaf, readBuffer, readFrame, readPlain, readRecord, sha256, writeBuffer, writeFrame, writePlain, writeRecord };
