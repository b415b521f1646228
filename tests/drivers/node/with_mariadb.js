// MariaDB Connector/Node.js.
'use strict';

const mariadb = require('mariadb');
const { main, settings, show } = require('./script');

const options = (more) => ({ ...settings, permitLocalInfile: true, allowPublicKeyRetrieval: true, ...more });

main({
  connect: (more) => mariadb.createConnection(options(more)),
  connectionId: (db) => db.threadId,
  canChangeUser: (db) => db.info.isMariaDB(), // it refuses to on MySQL itself
  query: (db, sql, values) => db.query(sql, values),
  execute: (db, sql, values) => db.execute(sql, values),
  stream: (db, sql) => db.queryStream(sql),
  metadata: async (db, sql) => {
    const rows = await db.query(sql);
    return rows.meta.map((c) => [
      c.name(), c.orgName(), c.table(), c.schema(), c.type, c.columnType, c.columnLength, c.scale, c.flags,
      c.collation && c.collation.name, c.dataTypeName, c.dataTypeFormat,
    ]);
  },
  // In one packet where the server can take it.
  batch: async (db, sql, rows) => [
    await db.batch(sql, rows),
    await db.batch('UPDATE many SET name = ? WHERE id = ?', [['other', 1], [null, 2]]),
  ],
  boundBatch: (db, sql, rows) => db.batch(sql, rows),
  loadData: (db, sql) => db.query(sql),
  pool: async () => {
    const pool = mariadb.createPool(options({ connectionLimit: 3, resetAfterUse: true }));
    const answers = Array.from({ length: 30 }, (_, n) => pool.execute('SELECT ? + 1 AS n, ? AS s', [n, `é${n}`]));
    show('answers', (await Promise.all(answers)).map((rows) => rows[0]));
    await pool.end();
    const one = mariadb.createPool(options({ connectionLimit: 1, resetAfterUse: true }));
    const db = await one.getConnection();
    await db.query('SET @here = 1');
    await db.release();
    show('left', await one.query('SELECT @here'));
    await one.end();
  },
});
