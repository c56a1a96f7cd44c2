// One connection to a server: packets both ways, each its length and a `Packet` of umbel.proto, inside TLS.
"use strict";
const net = require("node:net");
const tls = require("node:tls");
const { umbel } = require("../generated/umbel.js");
const { hostAndPort } = require("./join");

const { Packet } = umbel.v1;
const MAGIC = Buffer.from("UMBL/1\r\n");
const MAX_PACKET_BYTES = 2 ** 21;
const PLAIN = { longs: Number, bytes: Buffer, defaults: true, oneofs: true };

/** `[kind, fields]` of a packet's bytes, and back. */
function readPacket(bytes) {
  const packet = Packet.toObject(Packet.decode(bytes), PLAIN);
  return [packet.kind, packet[packet.kind]];
}

const writePacket = (kind, fields) => Packet.encode(Packet.fromObject({ [kind]: fields })).finish();

/** Connect, exchange the first bytes, and call `heard(kind, fields)` for each packet; resolves with the reason of the end. */
function connect(address, identity, { opened, heard }) {
  const { host, port } = hostAndPort(address);
  const secure = { ca: identity.ca_pem, cert: identity.certificate_pem, key: identity.key_pem, minVersion: "TLSv1.2" };
  const name = net.isIP(host) ? {} : { servername: host };
  return new Promise((ended) => {
    let waiting = Buffer.alloc(0);
    let greeted = false;
    const socket = tls.connect({ host, port, ...name, ...secure, timeout: 15_000 }, () => socket.write(MAGIC));
    const say = (kind, fields) => {
      const bytes = writePacket(kind, fields);
      const length = Buffer.alloc(4);
      length.writeUInt32LE(bytes.length);
      socket.write(Buffer.concat([length, bytes]));
    };
    const end = (reason) => {
      socket.destroy();
      ended(reason);
    };
    const take = () => {
      if (!greeted) {
        if (waiting.length < MAGIC.length) return false;
        if (!waiting.subarray(0, MAGIC.length).equals(MAGIC)) throw new Error(`${address} is no Umbel server`);
        waiting = waiting.subarray(MAGIC.length);
        greeted = true;
        opened({ say, end, quiet: (ms) => socket.setTimeout(ms) });
      }
      const size = waiting.length < 4 ? 0 : waiting.readUInt32LE(0);
      if (size > MAX_PACKET_BYTES) throw new Error(`${address} sends a packet of ${size} bytes`);
      if (waiting.length < 4 || waiting.length < 4 + size) return false;
      const bytes = waiting.subarray(4, 4 + size);
      waiting = waiting.subarray(4 + size);
      heard(...readPacket(bytes));
      return !socket.destroyed;
    };
    socket.on("data", (data) => {
      try {
        waiting = Buffer.concat([waiting, data]);
        while (take());
      } catch (error) {
        end(error.message);
      }
    });
    socket.on("timeout", () => end("the server was silent"));
    socket.on("error", (error) => end(error.message));
    socket.on("close", () => end("the connection ended"));
  });
}

module.exports = { connect, readPacket, writePacket };
