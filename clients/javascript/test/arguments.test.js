// What cannot work is one sentence and exit code 2, before anything is joined or connected to.
"use strict";
const assert = require("node:assert");
const { spawnSync } = require("node:child_process");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { after, before, test } = require("node:test");
const { hostAndPort } = require("../lib/join");
const { Node } = require("../lib/node");

const HEART = path.join(__dirname, "../example/heart.js");
const NEW = ["new", "fine.csv", "hospital"];
const JOINED = ["joined", "fine.csv", "hospital"];
let folder;

before(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), "umbel-"));
  fs.mkdirSync(path.join(folder, "joined"));
  fs.writeFileSync(path.join(folder, "joined", "identity.json"), JSON.stringify({ name: "h0", address: "127.0.0.1:1" }));
  fs.writeFileSync(path.join(folder, "fine.csv"), "\ufeff0.5,-1e-3,1\r\n2,3,0\r\n");
});
after(() => fs.rmSync(folder, { recursive: true }));

function refused(words, sentence) {
  const { status, stdout, stderr } = spawnSync("node", [HEART, ...words], { cwd: folder, encoding: "utf8", timeout: 10_000 });
  assert.match(stderr, sentence);
  assert.match(stderr, /^error: [^\n]+\n$/);
  assert.deepStrictEqual({ status, stdout }, { status: 2, stdout: "" });
}

test("words that are missing or not known are refused", () => {
  refused([], /got 0 of them; try node heart\.js FOLDER PATIENTS\.csv APP/);
  refused([...JOINED, "--frob"], /Unknown option '--frob'; try node heart\.js/);
  refused([...JOINED, "--pause-ms", "long"], /--pause-ms is in milliseconds, at least 0, got 'long'/);
});

test("who has not joined needs a code and a name", () => {
  refused(NEW, /new has no identity yet; join with --join CODE --name NAME/);
  refused([...NEW, "--join", "CODE"], /a name is needed to join/);
});

test("a server at no address is refused", () => {
  for (const wrong of ["foo://x", "ws://127.0.0.1:1", "grpc://127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "a b:1", ""]) {
    refused([...JOINED, "--server", wrong], new RegExp(`HOST:PORT or grpc://HOST:PORT, got '${wrong}'`));
  }
});

test("a node with no address does not try for ever", async () => {
  const node = new Node({ name: "h0", address: "ws://127.0.0.1:1" }, { apps: {} }, () => {});
  await assert.rejects(node.takePart(), /a server's address is/);
});

test("addresses are read", () => {
  assert.deepStrictEqual(hostAndPort("fl.example.org:8080"), { scheme: "tcp", host: "fl.example.org", port: 8080 });
  assert.deepStrictEqual(hostAndPort("grpc://[::1]:443"), { scheme: "grpc", host: "::1", port: 443 });
});

test("a file that is not all numbers is refused before joining", () => {
  const files = {
    "1,,0\n": /line 1 has '' in column 2/,
    "1,2,0\n\n1,2,0\n": /line 2 has '' in column 1/,
    "age,sex,label\n1,2,0\n": /line 1 has 'age' in column 1/,
    "1,2,0\n1,Infinity,0\n": /line 2 has 'Infinity' in column 2/,
    "1,2,0\n1,0\n": /line 2 has 2 cells and line 1 has 3/,
    "1,2,3\n": /ends with the label 3, which must be 0 or 1/,
    "": /line 1 has '' in column 1/,
  };
  refused(["new", "missing.csv", "hospital", "--join", "CODE", "--name", "h0"], /missing\.csv cannot be read \(ENOENT\)/);
  for (const [text, sentence] of Object.entries(files)) {
    fs.writeFileSync(path.join(folder, "odd.csv"), text);
    refused(["new", "odd.csv", "hospital", "--join", "CODE", "--name", "h0"], sentence);
  }
  assert.ok(!fs.existsSync(path.join(folder, "new")));
});

test("a file of numbers gets as far as joining", () => {
  const { stderr, status } = spawnSync("node", [HEART, ...NEW, "--join", "1", "--name", "h0"], { cwd: folder, encoding: "utf8", timeout: 10_000 });
  assert.match(stderr, /^error: an invitation code has letters/);
  assert.strictEqual(status, 1);
});
