// mysql2, with promises.
'use strict';

const fs = require('fs');
const mysql = require('mysql2');
const { main, settings, show } = require('./script');

const options = (more) => ({ ...settings, supportBigNumbers: true, bigNumberStrings: true, ...more });
const column = (c) => [c.name, c.columnType, c.columnLength, c.characterSet, c.flags, c.decimals, c.table, c.orgName, c.schema];

main({
  // The promises' own `connect` does not give the connection's events.
  connect: (more) =>
    new Promise((resolve, reject) => {
      const connection = mysql.createConnection(options(more));
      connection.once('error', reject);
      connection.connect((error) => (error ? reject(error) : resolve(connection.promise())));
    }),
  connectionId: (db) => db.threadId || db.connection.threadId,
  canChangeUser: () => true,
  query: async (db, sql, values) => (await db.query(sql, values))[0],
  execute: async (db, sql, values) =>
    (await db.execute(sql, values.map((value) => (typeof value === 'bigint' ? String(value) : value))))[0],
  stream: (db, sql) => db.connection.query(sql).stream(),
  metadata: async (db, sql) => (await db.query(sql))[1].map(column),
  batch: async (db, sql, rows) => (await db.query('INSERT INTO many VALUES ?', [rows]))[0],
  boundBatch: async (db, sql, rows) => (await db.query('INSERT INTO account (name, balance) VALUES ?', [rows]))[0],
  loadData: async (db, sql, file) =>
    (await db.query({ sql, infileStreamFactory: () => fs.createReadStream(file) }))[0],
  pool: async () => {
    const pool = mysql.createPool(options({ connectionLimit: 3 })).promise();
    const answers = Array.from({ length: 30 }, (_, n) => pool.execute('SELECT ? + 1 AS n, ? AS s', [n, `é${n}`]));
    show('answers', (await Promise.all(answers)).map(([rows]) => rows[0]));
    await pool.end();
  },
});
