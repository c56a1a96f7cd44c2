// How a node gets its certificate: the invitation code says where the server is and which CA to trust, the key is made
// here. Node's own library cannot write a signing request, so `openssl`, which is everywhere, makes key and request.
"use strict";
const { execFileSync } = require("node:child_process");
const { X509Certificate, randomUUID } = require("node:crypto");
const fs = require("node:fs");
const https = require("node:https");
const path = require("node:path");
const { crc32 } = require("./crc32");
const { sha256 } = require("./formats");

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/** `{address, caDigest, secret}` of an invitation code. */
function readCode(code) {
  let bits = 0n;
  const word = code.replace(/\s/g, "").toUpperCase();
  for (const letter of word) {
    const value = ALPHABET.indexOf(letter);
    if (value < 0) throw new Error(`an invitation code has letters and the digits 2 to 7, not '${letter}'; copy it again`);
    bits = (bits << 5n) | BigInt(value);
  }
  const length = Math.floor((word.length * 5) / 8);
  bits >>= BigInt(word.length * 5 - length * 8);
  const data = Buffer.from(bits.toString(16).padStart(length * 2, "0"), "hex");
  const body = data.subarray(0, -4);
  if (length <= 53 || crc32(body) !== data.readUInt32LE(length - 4)) {
    throw new Error("this invitation code is mistyped or not complete; copy it again");
  }
  if (body[0] !== 1) throw new Error(`this invitation code has format ${body[0]}, this client reads 1; update it`);
  return { secret: body.subarray(1, 17), caDigest: body.subarray(17, 49), address: body.toString("utf8", 49) };
}

/** `{scheme, host, port}` of "host:port", "[::1]:port", "tcp://host:port" or "grpc://host:port". */
function hostAndPort(address) {
  const found = /^(?:(tcp|grpc):\/\/)?(?:\[([\da-f:.]+)\]|([^\s:/@[\]]+)):(\d{1,5})$/i.exec(address);
  const [, scheme = "tcp", ipv6, host = ipv6, port] = found ?? [];
  if (!found || port < 1 || port > 65535) {
    throw new Error(`a server's address is HOST:PORT, tcp://HOST:PORT or grpc://HOST:PORT, got '${address}'; try fl.example.org:8080`);
  }
  return { scheme: scheme.toLowerCase(), host, port: Number(port) };
}

/** JSON over HTTPS; a body makes it a POST. */
function ask(address, where, tls, body) {
  const { host, port } = hostAndPort(address);
  const options = { host, port, path: where, agent: false, timeout: 30_000, ...tls, method: body ? "POST" : "GET" };
  return new Promise((resolve, reject) => {
    const request = https.request(options, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("end", () => {
        try {
          const told = JSON.parse(Buffer.concat(parts).toString());
          if (answer.statusCode === 200) resolve(told);
          else reject(new Error(`${address} refuses: ${told.error}`));
        } catch {
          reject(new Error(`${address} does not answer as an Umbel server does; is it the address?`));
        }
      });
    });
    request.on("timeout", () => request.destroy(new Error(`${address} does not answer within 30 s`)));
    request.on("error", reject);
    request.end(body && JSON.stringify(body));
  });
}

function privately(file, text) {
  const whole = `${file}.${randomUUID()}`;
  fs.writeFileSync(whole, text, { mode: 0o600, flag: "wx" });
  fs.renameSync(whole, file);
}

/** Become the member `name`; the identity is kept in `folder` and returned. The same call goes on after a kill. */
async function join(code, name, folder) {
  const { address, caDigest, secret } = readCode(code);
  const { ca } = await ask(address, "/v1/ca", { rejectUnauthorized: false });
  const certificate = new X509Certificate(ca);
  // Whoever answered: the digest in the code, and nothing else, says that this is the right CA.
  if (!sha256(certificate.raw).equals(caDigest)) throw new Error(`another server answers at ${address}; its CA is not the one of this code`);
  const ca_pem = certificate.toString();
  fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
  const key = path.join(folder, "joining.key");
  // The key is kept before it is spoken of: the server takes the code once, and for this key again.
  if (!fs.existsSync(key)) privately(key, openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"));
  const csr = openssl("req", "-new", "-key", key, "-subj", `/CN=${name}`);
  const told = await ask(address, "/v1/enroll", { ca: ca_pem }, { secret: secret.toString("base64"), name, csr });
  const key_pem = fs.readFileSync(key, "utf8");
  const identity = { format: 1, ca_pem, certificate_pem: told.certificate, key_pem, name, address };
  privately(path.join(folder, "identity.json"), JSON.stringify(identity));
  fs.unlinkSync(key);
  return identity;
}

const openssl = (...words) => execFileSync("openssl", words, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

const loadIdentity = (folder) => JSON.parse(fs.readFileSync(path.join(folder, "identity.json"), "utf8"));

module.exports = { hostAndPort, join, loadIdentity, readCode };
