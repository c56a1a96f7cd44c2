// What was typed, and the file that it names: all of it is looked at before anything is joined.
"use strict";
const fs = require("node:fs");
const { parseArgs } = require("node:util");
const { hostAndPort } = require("../lib/join");

const USAGE = "node heart.js FOLDER PATIENTS.csv APP [--join CODE --name NAME] [--server ADDRESS]";

/** `{folder, app, patients, joined, join, name, server, pauseMs}`; throws one sentence if something cannot be. */
function readArguments(words) {
  const { positionals, values } = parsed(words);
  if (positionals.length !== 3) throw new Error(`a folder, a file and an app's name are needed, got ${positionals.length} of them; try ${USAGE}`);
  const [folder, file, app] = positionals;
  const { join, name, server } = values;
  const joined = fs.existsSync(`${folder}/identity.json`);
  if (!joined && !join) throw new Error(`${folder} has no identity yet; join with --join CODE --name NAME`);
  if (!joined && !name) throw new Error("a name is needed to join: --name, such as the hospital's");
  if (server !== undefined) hostAndPort(server);
  const pauseMs = Number(values["pause-ms"]);
  if (!(pauseMs >= 0 && pauseMs < 2 ** 31)) throw new Error(`--pause-ms is in milliseconds, at least 0, got '${values["pause-ms"]}'`);
  return { folder, app, patients: readPatients(file), joined, join, name, server, pauseMs };
}

function parsed(words) {
  const text = { type: "string" };
  const options = { join: text, name: text, server: text, "pause-ms": { ...text, default: "0" } };
  try {
    return parseArgs({ args: words, allowPositionals: true, options });
  } catch (error) {
    throw new Error(`${error.message.split(/[.\n]/)[0]}; try ${USAGE}`);
  }
}

/** `[{x, y}]` of a file with a row per patient: features, then the label, 0 or 1. */
function readPatients(file) {
  const rows = textOf(file).trim().split("\n").map((line) => line.split(",").map((cell) => cell.trim()));
  rows.forEach((row, i) => {
    const where = `${file} line ${i + 1}`;
    const odd = row.findIndex((cell) => cell === "" || !Number.isFinite(Number(cell)));
    if (odd >= 0) throw new Error(`${where} has '${row[odd].slice(0, 40)}' in column ${odd + 1}, and only numbers can be trained on; fill it in or leave the row out`);
    if (row.length < 2 || row.length !== rows[0].length) {
      throw new Error(`${where} has ${row.length} cells and line 1 has ${rows[0].length}; each row is features, then the label`);
    }
    if (![0, 1].includes(Number(row.at(-1)))) throw new Error(`${where} ends with the label ${row.at(-1)}, which must be 0 or 1`);
  });
  return rows.map((row) => row.map(Number)).map((row) => ({ x: row.slice(0, -1), y: row.at(-1) }));
}

function textOf(file) {
  try {
    return fs.readFileSync(file, "utf8");
  } catch (error) {
    throw new Error(`${file} cannot be read (${error.code}); name a file with a row per patient`);
  }
}

module.exports = { readArguments };
