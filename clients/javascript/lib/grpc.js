// One connection to a server's gRPC door: the service is what @grpc/proto-loader makes of umbel.proto.
"use strict";
const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const PROTO = path.join(__dirname, "../../../src/umbel/wire/umbel.proto");
const PLAIN = { longs: Number, defaults: true, oneofs: true };
const MAX_PACKET_BYTES = 2 ** 21;

/** As `connect` of stream.js, for an address "grpc://host:port". */
function connect(address, identity, { opened, heard }) {
  const { umbel } = grpc.loadPackageDefinition(loader.loadSync(PROTO, PLAIN));
  const [ca, key, certificate] = [identity.ca_pem, identity.key_pem, identity.certificate_pem].map((pem) => Buffer.from(pem));
  const credentials = grpc.credentials.createSsl(ca, key, certificate);
  const options = { "grpc.max_receive_message_length": MAX_PACKET_BYTES, "grpc.enable_retries": 0 };
  return new Promise((ended) => {
    const client = new umbel.v1.Umbel(address.replace(/^grpc:\/\//i, ""), credentials, options);
    const call = client.Connect();
    let patience;
    const end = (reason) => {
      clearTimeout(patience);
      call.cancel();
      client.close();
      ended(reason);
    };
    const quiet = (ms) => {
      quiet.ms = ms;
      clearTimeout(patience);
      patience = setTimeout(() => end("the server was silent"), ms);
    };
    call.on("data", (packet) => {
      quiet(quiet.ms);
      try {
        if (packet.kind) heard(packet.kind, packet[packet.kind]);
      } catch (error) {
        end(error.message);
      }
    });
    call.on("error", (error) => end(error.message));
    call.on("end", () => end("the connection ended"));
    quiet(15_000);
    opened({ say: (kind, fields) => call.write({ [kind]: fields }), end, quiet });
  });
}

module.exports = { connect };
