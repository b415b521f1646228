// The script of both drivers. A driver's own program gives an object that knows how it differs:
//   connect(options)              a connection
//   query, execute(db, sql, values)  rows, or what the driver tells of a statement without rows
//   stream(db, sql)               the rows, one after the other
//   metadata(db, sql)             what the driver tells of the columns
//   batch(db, sql, rows), reset(db), pool(), loadData(db, file)
'use strict';

const crypto = require('crypto');
const fs = require('fs');
const path = require('path');
const util = require('util');

const env = process.env;
const MIB = 1024 * 1024;

const settings = {
  host: env.DRIVER_HOST,
  port: Number(env.DRIVER_PORT),
  user: env.DRIVER_USER,
  password: env.DRIVER_PASSWORD,
  database: env.DRIVER_SCHEMA,
  compress: env.DRIVER_COMPRESS === '1',
  multipleStatements: true,
  dateStrings: true,
  ...(env.DRIVER_CA && { ssl: { ca: fs.readFileSync(env.DRIVER_CA, 'utf8'), rejectUnauthorized: true } }),
};
const otherAccount = { user: env.DRIVER_OTHER_USER, password: env.DRIVER_OTHER_PASSWORD };

const section = (name) => console.log('==', name);
const shared = (name) => fs.readFileSync(path.join(env.DRIVER_SQL, `${name}.sql`), 'utf8');

// A value as it is; long ones as length and checksum.
function shown(value) {
  if ((Buffer.isBuffer(value) || typeof value === 'string') && value.length > 300) {
    return `${typeof value} of length ${value.length}, ${crypto.createHash('md5').update(value).digest('hex')}`;
  }
  if (Array.isArray(value)) return value.map(shown);
  if (value && Object.getPrototypeOf(value) === Object.prototype) {
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, shown(inner)]));
  }
  if (env.DRIVER_MODE === 'bound' && value && value.serverStatus) {
    // Whether an index was used is about how the server found the rows, which is another way in a bound session.
    value.serverStatus &= ~(16 | 32);
  }
  return value;
}

function show(label, value) {
  const options = { depth: 8, breakLength: Infinity, compact: 100, maxArrayLength: 1000, maxStringLength: 2000 };
  console.log(`${label}: ${util.inspect(shown(value), options)}`);
}

async function fails(label, action) {
  let error;
  try {
    await action();
  } catch (caught) {
    error = caught;
  }
  if (!error) throw new Error(`${label}: no error`);
  show(label, [error.code, error.errno, error.sqlState, error.sqlMessage || error.message]);
}

const blob = (length) => Buffer.alloc(length, Buffer.from(Array.from({ length: 256 }, (_, n) => n)));

const COLUMNS =
  'i8, u8, i16, i24, i32, i64, u64, f32, f64, amount, bits, y, d, t, dt, ts, c, v, txt, latin, b, vb, lb, e, s, j';
const VALUES = [
  -1, 2, -3, 4, -5, 6, 18446744073709551615n, 1.25, -1e200, '-123456789.0123456789', Buffer.from([2, 1]), 1999,
  '2024-02-29', '25:01:02.000017', '2024-02-29 23:59:59.999999', new Date(Date.UTC(2001, 1, 3, 4, 5, 6, 789)), '日本',
  'it\'s "😀" \\ \0 ?', 'x'.repeat(60000), 'é', Buffer.from([0, 1, 2, 3]), Buffer.from('\'\\"\0\xff', 'latin1'),
  Buffer.alloc(0), 'three', 'y,z', '{"a": "😀"}',
];

async function main(driver) {
  const db = await driver.connect({});
  if (env.DRIVER_MODE === 'bound') {
    await bound(driver, db);
  } else {
    await unbound(driver, db);
  }
  await db.end();
  section('end');
}

async function unbound(driver, db) {
  const query = async (label, sql, values) => show(label, await driver.query(db, sql, values));
  await login(driver, db, query);
  await text(query);
  section('parameters');
  await parameters(driver, db, driver.query);
  section('prepared');
  await parameters(driver, db, driver.execute);
  await batch(driver, db, query);
  section('blobs');
  await blobs(driver, db, driver.query);
  section('blobs-prepared');
  await blobs(driver, db, driver.execute);
  await streaming(driver, db);
  await multi(driver, db, query);
  await procedure(driver, db, query);
  await transaction(driver, db, query);
  await errors(driver, db, query);
  section('warnings');
  await query('value', "SELECT CAST('12abc' AS SIGNED), 1 / 0");
  await query('warnings', 'SHOW WARNINGS');
  await query('note', 'CREATE TABLE IF NOT EXISTS many (id INT)');
  section('metadata');
  for (const column of await driver.metadata(db, "SELECT t.*, id + 1 AS `ä b`, 'x', NULL, 1.50, NOW(6) FROM types t")) {
    show('column', column);
  }
  await loadData(driver, db, query);
  await reset(driver, db, query);
  section('pool');
  await driver.pool();
}

async function login(driver, db, query) {
  section('login');
  await query('version', 'SELECT VERSION(), DATABASE(), CURRENT_USER()');
  await query('charset', 'SELECT @@character_set_client, @@character_set_results, @@collation_connection');
  await query('modes', 'SELECT @@sql_mode, @@autocommit');
  const [{ id }] = await driver.query(db, 'SELECT CONNECTION_ID() AS id');
  show("connection id is the server's", driver.connectionId(db) === Number(id));
  const [{ Value: cipher }] = await driver.query(db, "SHOW SESSION STATUS LIKE 'Ssl_cipher'");
  show('tls', cipher !== '');
  await query('compression', "SHOW SESSION STATUS LIKE 'Compression'");
}

async function text(query) {
  section('text');
  await query('create', shared('types'));
  await query('insert', shared('insert'));
  await query('read', 'SELECT * FROM types ORDER BY id');
  await query('update', "UPDATE types SET i32 = 5, v = CONCAT(v, '!') WHERE id < 3");
  await query('update of nothing', 'UPDATE types SET i32 = 5 WHERE id = 1');
  await query('delete', 'DELETE FROM types WHERE id = 2');
  await query('generated key', "INSERT INTO types (v) VALUES ('a'), ('b')");
  await query('left', 'SELECT id, v FROM types ORDER BY id');
  await query('nothing', 'SELECT id FROM types WHERE id > 1000');
}

async function parameters(driver, db, run) {
  const insert = `INSERT INTO types (${COLUMNS}) VALUES (${VALUES.map(() => '?').join(', ')})`;
  show('clear', await run(db, 'DELETE FROM types WHERE id > ?', [0]));
  show('inserted', await run(db, insert, VALUES));
  show('inserted again', await run(db, insert, VALUES.map(() => null)));
  show('read', await run(db, `SELECT ${COLUMNS} FROM types WHERE id > ? ORDER BY id`, [-1]));
  show('found', await run(db, 'SELECT i32, v FROM types WHERE v = ?', [VALUES[17]]));
  show('updated', await run(db, 'UPDATE types SET i32 = ? WHERE i32 IS NULL', [7]));
  // Sent without waiting for one another's answers.
  show('at once', await Promise.all([1, 2, 3].map((n) => run(db, 'SELECT ? + 1 AS n, ? AS s', [n, `é${n}`]))));
  await fails('syntax', () => run(db, 'SELEKT ?', [1]));
}

async function batch(driver, db, query) {
  section('batch');
  await query('create', 'CREATE TABLE many (id INT PRIMARY KEY, name VARCHAR(40), at DATETIME(6))');
  const rows = Array.from({ length: 1000 }, (_, n) => [
    n + 1, (n + 1) % 7 ? `näme ${n + 1}` : null, `2026-01-01 00:00:${String(n % 60).padStart(2, '0')}.000001`,
  ]);
  show('inserted', await driver.batch(db, 'INSERT INTO many VALUES (?, ?, ?)', rows));
  await query('there', 'SELECT COUNT(*), COUNT(name), SUM(id), MIN(at), MAX(at) FROM many');
}

async function blobs(driver, db, run) {
  await driver.query(db, 'CREATE TABLE IF NOT EXISTS large (id INT PRIMARY KEY, data LONGBLOB)');
  await driver.query(db, 'DELETE FROM large');
  for (const [id, length] of [MIB, 17 * MIB, 0].entries()) {
    show('inserted', await run(db, 'INSERT INTO large VALUES (?, ?)', [id, blob(length)]));
    show('stored', await run(db, 'SELECT LENGTH(data), CRC32(data) FROM large WHERE id = ?', [id]));
    const [{ data }] = await run(db, 'SELECT data FROM large WHERE id = ?', [id]);
    show('read back', data.equals(blob(length)));
  }
}

async function streaming(driver, db) {
  section('streaming');
  let count = 0;
  let total = 0;
  const sql = 'SELECT a.id, b.name, b.at FROM many a JOIN many b ON b.id <= 10 ORDER BY 1, b.id';
  for await (const row of driver.stream(db, sql)) {
    if (count === 0) show('first', row);
    count += 1;
    total += row.id;
  }
  show('rows', [count, total]);
}

async function multi(driver, db, query) {
  section('multi');
  await query('several', 'SELECT 1; DELETE FROM many WHERE id > 990; SELECT id, name FROM many WHERE id < 3; DO 0');
  await fails('in the middle', () => driver.query(db, "SELECT 'before'; SELECT * FROM nowhere; SELECT 'never'"));
  await query('still in order', "SELECT 'yes'");
}

async function procedure(driver, db, query) {
  section('procedure');
  await query('create', shared('procedure'));
  await query('call', 'CALL counted(20, @twice)');
  show('prepared call', await driver.execute(db, 'CALL counted(?, @twice)', [30]));
  await query('out', 'SELECT @twice');
}

async function transaction(driver, db, query) {
  section('transaction');
  const count = 'SELECT COUNT(*), MAX(id) FROM many';
  for (const end of ['commit', 'rollback']) {
    await db.beginTransaction();
    await query('insert', "INSERT INTO many VALUES (2001, 'a', NULL) ON DUPLICATE KEY UPDATE id = 3001");
    await query('savepoint', 'SAVEPOINT here');
    await query('insert', "INSERT INTO many VALUES (2002, 'a', NULL)");
    await query('rollback to', 'ROLLBACK TO SAVEPOINT here');
    await query('inside', count);
    await db[end]();
    await query(`after ${end}`, count);
  }
}

async function errors(driver, db, query) {
  section('errors');
  for (const sql of [
    "INSERT INTO many VALUES (1, 'a', NULL)", 'SELEKT 1', 'SELECT * FROM nowhere', 'SELECT nothing FROM many',
    "INSERT INTO many VALUES (3001, REPEAT('x', 50), NULL)", 'INSERT INTO many (id) VALUES (NULL)', 'USE nowhere',
    'SET GLOBAL max_connections = 10', '',
  ]) {
    await fails('error', () => driver.query(db, sql));
  }
  await fails('prepared', () => driver.execute(db, 'INSERT INTO many VALUES (?, ?, ?)', [1, 'a', null]));
  await fails('login', () => driver.connect({ password: 'wrong' }));
  await fails('login', () => driver.connect({ database: 'nowhere' }));
  await query('still in order', "SELECT 'yes'");
}

async function loadData(driver, db, query) {
  section('load-data');
  const file = path.join(env.DRIVER_TMP, 'rows.txt');
  fs.writeFileSync(file, Array.from({ length: 3000 }, (_, n) => `${n + 5001}\tname é ${n}\t\\N\n`).join(''));
  const sql = `LOAD DATA LOCAL INFILE '${file}' INTO TABLE many CHARACTER SET utf8mb4`;
  show('loaded', await driver.loadData(db, sql, file));
  await query('there', 'SELECT COUNT(*), MAX(name) FROM many WHERE id > 5000');
  fs.unlinkSync(file);
  await fails('no file', () => driver.loadData(db, sql, file));
  await query('still in order', "SELECT 'yes'");
}

async function reset(driver, db, query) {
  section('reset');
  await db.ping();
  await query('set', "SET @here = 1, sql_mode = 'ANSI'");
  await db.reset();
  await query('reset', 'SELECT @here, @@sql_mode = @@GLOBAL.sql_mode AS same, DATABASE()');
  if (driver.canChangeUser(db)) {
    await db.changeUser({ ...otherAccount, database: 'information_schema' });
    await query('user', 'SELECT CURRENT_USER(), DATABASE()');
    await db.changeUser({ user: settings.user, password: settings.password, database: settings.database });
    await query('user', 'SELECT CURRENT_USER(), DATABASE(), @@character_set_client');
  }
  const other = await driver.connect({});
  other.on('error', () => {});
  const id = driver.connectionId(other);
  await query('kill', `KILL ${id}`);
  while ((await driver.query(db, `SELECT id FROM information_schema.processlist WHERE id = ${id}`)).length > 0);
  let refused;
  await driver.query(other, 'SELECT 1').catch((error) => (refused = error));
  show('killed', refused !== undefined);
  other.destroy();
}

async function bound(driver, db) {
  section('bound');
  const query = async (label, sql, values) => show(label, await driver.query(db, sql, values));
  const execute = async (label, sql, values) => show(label, await driver.execute(db, sql, values));
  if (env.DRIVER_BEGIN) await driver.query(db, env.DRIVER_BEGIN);
  await query('insert', "INSERT INTO account (name, balance) VALUES ('neu 😀', 5)");
  await query('insert rows', "INSERT INTO account (name, balance) VALUES ('a', 1), (NULL, 2), ('c', 3)");
  await query('update by key', 'UPDATE account SET balance = balance - 10.25 WHERE id = ?', [1]);
  await query('update by name', "UPDATE account SET balance = balance * 2 WHERE name LIKE 'b%'");
  await query('update of nothing', 'UPDATE account SET balance = balance WHERE id = 1');
  await query('delete', 'DELETE FROM account WHERE name IS NULL ORDER BY id LIMIT 1');
  const insert = 'INSERT INTO note VALUES (?, ?, ?, ?, ?, ?)';
  await execute('insert', insert, [3, '2026-05-05 05:05:05.000005', 'it\'s "ü" \\', blob(MIB), '{"b": [1]}', 1e-7]);
  await execute('again', insert, [4, null, null, null, null, null]);
  await execute('update', 'UPDATE note SET d = d + ?, txt = ? WHERE id IN (?, ?)', [0.25, null, 1, 3]);
  await execute('delete', 'DELETE FROM note WHERE id = ?', [2]);
  await execute('read', 'SELECT * FROM note WHERE id < ?', [4]);
  const rows = Array.from({ length: 20 }, (_, n) => [`n${n}`, n]);
  show('batch', await driver.boundBatch(db, 'INSERT INTO account (name, balance) VALUES (?, ?)', rows));
  const update = 'UPDATE account SET balance = balance + 1 WHERE name = ?';
  show('at once', await Promise.all(['n1', 'n2', 'n3'].map((name) => driver.execute(db, update, [name]))));
  await fails('duplicate key', () => driver.query(db, "INSERT INTO account (name, balance) VALUES ('ann', 1)"));
  await db.beginTransaction();
  await execute('update', 'UPDATE account SET balance = 0 WHERE id IN (?, ?, ?)', [2, 3, 4]);
  await query('savepoint', 'SAVEPOINT here');
  await query('delete', 'DELETE FROM account');
  await query('rollback to', 'ROLLBACK TO SAVEPOINT here');
  await query('insert', "INSERT INTO account VALUES (500, 'inside', 1)");
  await db.commit();
  await db.beginTransaction();
  await query('delete', 'DELETE FROM account WHERE id < 10');
  await db.rollback();
  await query('update', "UPDATE account SET name = 'last' WHERE id = 4");
  await query('account', 'SELECT * FROM account ORDER BY id');
  await query('note', 'SELECT * FROM note ORDER BY id');
  if (env.DRIVER_END) await driver.query(db, env.DRIVER_END);
  await query('still in order', "SELECT 'yes'");
}

module.exports = { main, settings, show };
