// Every vector of docs/vectors is read, and written again to the same bytes.
"use strict";
const assert = require("node:assert");
const fs = require("node:fs");
const path = require("node:path");
const { test } = require("node:test");
const { readBuffer, readFrame, readPlain, readRecord, sha256, writeBuffer, writeFrame, writePlain } = require("../lib/formats");
const { readCode } = require("../lib/join");
const { readPacket, writePacket } = require("../lib/stream");

const vectors = (name) => JSON.parse(fs.readFileSync(path.join(__dirname, "../../../docs/vectors", `${name}.json`), "utf8"));
const bytes = (hex) => Buffer.from(hex, "hex");
const camel = (name) => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
const BYTES = new Set(["boot", "digest", "data", "receipt"]);

test("packets", () => {
  for (const { kind, fields, hex } of vectors("packets")) {
    const named = Object.fromEntries(
      Object.entries(fields).map(([name, value]) => [camel(name), BYTES.has(name) ? bytes(value) : value]),
    );
    assert.deepStrictEqual(readPacket(bytes(hex)), [kind.toLowerCase(), named]);
    assert.strictEqual(Buffer.from(writePacket(kind.toLowerCase(), named)).toString("hex"), hex);
  }
});

test("buffers", () => {
  const value = (dtype, item) => (dtype === "F16" && item === 0x3e00 ? 1.5 : dtype === "BOOL" ? item === 1 : Number(item));
  for (const { arrays, hex, digest } of vectors("buffers")) {
    const found = readBuffer(bytes(hex));
    const shown = found.map(({ data, ...about }) => ({ ...about, values: Array.from(data, (item) => value(about.dtype, item)) }));
    assert.deepStrictEqual(shown, arrays);
    assert.strictEqual(writeBuffer(found).toString("hex"), hex);
    assert.strictEqual(sha256(bytes(hex)).toString("hex"), digest);
  }
});

test("frames", () => {
  for (const { what, header, hex } of vectors("frames")) {
    const found = readFrame(bytes(hex));
    assert.deepStrictEqual({ ...found, buffers: found.buffers.map((buffer) => buffer.length) }, header, what);
    const plain = header.kind === "any";
    if (plain) assert.deepStrictEqual(writePlain(readPlain(found.body)), found.body);
    else assert.strictEqual(typeof readRecord(bytes(hex)), "object");
    const again = writeFrame(found);
    assert.deepStrictEqual(readFrame(again), found);
    // JavaScript has one kind of number and writes 30.0 as 30, which says the same.
    if (!/\d\.0[,\]}]/.test(bytes(hex).toString("latin1"))) assert.strictEqual(again.toString("hex"), hex, what);
  }
});

test("a conversation", () => {
  const { tcp_first_bytes: first, packets } = vectors("conversation");
  assert.strictEqual(bytes(first).toString("latin1"), "UMBL/1\r\n");
  for (const { hex } of packets) {
    assert.strictEqual(Buffer.from(writePacket(...readPacket(bytes(hex)))).toString("hex"), hex);
  }
});

test("invitations", () => {
  for (const { code, address, ca_digest, secret } of vectors("invitations")) {
    const found = readCode(` ${code.toLowerCase()}\n`);
    assert.deepStrictEqual(found, { address, caDigest: bytes(ca_digest), secret: bytes(secret) });
    const other = code[9] === "A" ? "B" : "A";
    assert.throws(() => readCode(code.slice(0, 9) + other + code.slice(10)), /mistyped/);
  }
});

test("a damaged frame is refused", () => {
  const broken = bytes(vectors("frames")[0].hex);
  broken[40] ^= 1;
  assert.throws(() => readFrame(broken), /damaged/);
});
