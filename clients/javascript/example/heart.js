// One hospital's part of a federated linear model: node heart.js FOLDER PATIENTS.csv APP [--join CODE --name NAME] [--server grpc://HOST:PORT]
//
// APP is the name of the app at the server. The file has a row per patient: features, then the label, 0 or 1.
"use strict";
const { setTimeout: pause } = require("node:timers/promises");
const { join, loadIdentity } = require("../lib/join");
const { Node } = require("../lib/node");
const { readArguments } = require("./arguments");

const { folder, app, patients, pauseMs, ...given } = asked();
const log = (text) => console.log(text);

function asked() {
  try {
    return readArguments(process.argv.slice(2));
  } catch (error) {
    console.error(`error: ${error.message}`);
    process.exit(2);
  }
}

const named = (model) => Object.fromEntries(model.map(({ name, data }) => [name, data]));

function guess({ weights, bias }, x) {
  let sum = bias[0];
  for (let j = 0; j < x.length; j++) sum += weights[j] * x[j];
  return sum;
}

const client = {
  apps: { [app]: "" },

  // This is the training, all of it: some steps downhill on the mean squared error.
  async fit(model, { local_steps: steps, lr }, turn) {
    log(`round ${turn.round}: training`);
    const now = named(model);
    for (let step = 0; step < steps && !turn.cancelled; step++) {
      const slope = { weights: new Float64Array(now.weights.length), bias: 0 };
      for (const { x, y } of patients) {
        const error = guess(now, x) - y;
        for (let j = 0; j < x.length; j++) slope.weights[j] += error * x[j];
        slope.bias += error;
      }
      for (let j = 0; j < now.weights.length; j++) now.weights[j] -= lr * (slope.weights[j] / patients.length);
      now.bias[0] -= lr * (slope.bias / patients.length);
      await pause(pauseMs); // lets the connection be served between two steps
    }
    return { arrays: model, examples: patients.length, steps };
  },

  evaluate(model) {
    const now = named(model);
    let [loss, right] = [0, 0];
    for (const { x, y } of patients) {
      const error = guess(now, x) - y;
      loss += error * error;
      right += guess(now, x) > 0.5 === (y === 1) ? 1 : 0;
    }
    return { loss: loss / patients.length, examples: patients.length, metrics: { accuracy: right / patients.length } };
  },
};

async function main() {
  const identity = given.joined ? loadIdentity(folder) : await join(given.join, given.name, folder);
  if (given.server) identity.address = given.server;
  log(await new Node(identity, client, log).takePart());
}

main().catch((error) => {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
});
