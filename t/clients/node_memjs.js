#!/usr/bin/env node
// memjs (binary): promises and callbacks, counters, expiry, all nodes as servers of one client, SASL.
'use strict';
const assert = require('assert');
const memjs = require('memjs');

const [mode, ...ports] = process.argv.slice(2);
const login = mode === 'sasl' ? { username: 'user', password: 'secret word' } : {};

function check(what, got, wanted = true) {
  assert.deepStrictEqual(got, wanted, `FAILED ${what}`);
  console.log(`ok ${what}`);
}

function client(ports, more) {
  return memjs.Client.create(ports.map((port) => `127.0.0.1:${port}`).join(','),
    { timeout: 20, conntimeout: 20, retries: 1, logger: { log() {} }, ...login, ...more });
}

async function text(reader, key) {
  const { value } = await reader.get(key);
  return value === null ? null : value.toString();
}

async function story(writer, reader) {
  await writer.flush();
  check('set', await writer.set('text', 'Grüße', { expires: 100 }));
  check('get', await text(reader, 'text'), 'Grüße');
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
  check('set bytes', await writer.set('bytes', bytes, {}));
  check('get bytes', (await reader.get('bytes')).value.equals(bytes));
  check('set large', await writer.set('large', 'x'.repeat(900000), {}));
  check('get large', (await text(reader, 'large')).length, 900000);
  check('a miss', await text(reader, 'nothing'), null);
  check('add of what is there', await writer.add('text', 'no', {}), false);
  check('add', await writer.add('added', 'yes', {}));
  check('replace of what is not there', await writer.replace('absent', 'no', {}), false);
  check('replace', await writer.replace('added', 'middle', {}));
  check('append', await writer.append('added', '-end'));
  // Its prepend sends the opcode of append (memjs 1.3.2), to memcached too.
  check('appended', await text(reader, 'added'), 'middle-end');
  check('append to nothing', await writer.append('absent', 'x').catch(() => false), false);
  check('increment with an initial value', (await writer.increment('count', 5, { initial: 100 })).value, 100);
  check('increment', (await writer.increment('count', 5, { initial: 100 })).value, 105);
  check('decrement', (await reader.decrement('count', 200, { initial: 0 })).value, 0);
  check('touch', await writer.touch('text', 1000));
  check('touch of nothing', await writer.touch('nothing', 1000), false);
  check('delete', await writer.delete('text'));
  check('delete of nothing', await reader.delete('text'), false);
  await Promise.all(Array.from({ length: 200 }, (_, i) => writer.set(`many${i}`, `value ${i}`, {})));
  const found = await Promise.all(Array.from({ length: 200 }, (_, i) => text(reader, `many${i}`)));
  check('200 at once', found, Array.from({ length: 200 }, (_, i) => `value ${i}`));
  await new Promise((resolve, reject) => reader.get('many0', (error, value) => {
    if (error) return reject(error);
    check('a callback', value.toString(), 'value 0');
    return resolve();
  }));
}

async function pool(all, reader) {
  await Promise.all(Array.from({ length: 100 }, (_, i) => all.set(`pool${i}`, `${i}`, {})));
  const found = await Promise.all(Array.from({ length: 100 }, (_, i) => text(reader, `pool${i}`)));
  check('what a client of all nodes has set is at every node', found, Array.from({ length: 100 }, (_, i) => `${i}`));
  await new Promise((resolve, reject) => all.stats((error, server, stats) => {
    if (error) return reject(error);
    check('stats', Number(stats.pid) > 0);
    return resolve();
  }));
}

async function main() {
  const [writer, reader, all] = [client(ports.slice(0, 1)), client(ports.slice(-1)), client(ports)];
  await story(writer, reader);
  await pool(all, reader);
  await writer.flush();
  check('all is gone', await text(reader, 'many1'), null);
  if (mode === 'sasl') {
    const stranger = client(ports.slice(0, 1), { password: 'wrong' });
    const stored = await stranger.set('x', 'x', {}).catch(() => false);
    check('a wrong password is refused', stored, false);
    stranger.close();
  }
  [writer, reader, all].forEach((one) => one.close());
}

main().catch((error) => {
  console.log(error.message);
  process.exit(1);
});
