PRAGMA application_id = 1130459251;
PRAGMA user_version = 2;
BEGIN TRANSACTION;
CREATE TABLE artifacts (
            execution TEXT NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL, PRIMARY KEY (execution, name)
        ) WITHOUT ROWID
        ;
CREATE TABLE callbacks (
            awaited INTEGER NOT NULL, awaiter INTEGER NOT NULL, PRIMARY KEY (awaited, awaiter)
        ) WITHOUT ROWID
        ;
INSERT INTO "callbacks" VALUES(3,1);
CREATE TABLE cells (
            n INTEGER PRIMARY KEY,
            execution TEXT NOT NULL UNIQUE,
            session TEXT NOT NULL,
            number INTEGER NOT NULL,
            started REAL NOT NULL,
            ended REAL NOT NULL,
            status TEXT NOT NULL,
            code TEXT NOT NULL,
            outcome BLOB NOT NULL,
            outputs BLOB NOT NULL
        );
INSERT INTO "cells" VALUES(1,'e1','s1',1,1000000000.0,1000000001.0,'ok','1',X'28B52FFD20C2050400B2C81A1B8025CE01E5BF91889526147D3E3F11FD604248078810446C61068E4D41A08F5C69C9C4D73068550BA99E25CA0D766DBE824023270B3FC9B6A50CB82FA5A652DD470808D007403B3056B9F20DE8556D1D6419AD6D73D5E7E1461FC8500B6D3B57EEF3A6A667463F59D64C060031CB7B09142A7E3C73E0D556A31C6A0F',X'28B52FFD202E7101005B7B226B696E64223A2273747265616D222C226E616D65223A227374646F7574222C2274657874223A2278227D5D');
CREATE TABLE ledger (
            n INTEGER PRIMARY KEY,
            at REAL NOT NULL,
            actor TEXT NOT NULL,
            session TEXT NOT NULL,
            what TEXT NOT NULL,
            data TEXT NOT NULL,
            prev_hash BLOB NOT NULL,
            record_hash BLOB NOT NULL
        );
INSERT INTO "ledger" VALUES(1,1000000000.0,'kernel 1','s1','cell ended','{"cell": 1}',X'0000000000000000000000000000000000000000000000000000000000000000',X'3794F942037E0DCCB4E2F260200BB07D078B87EE30A89553B79FEE0B5A3F773E');
CREATE TABLE ledger_head (one INTEGER PRIMARY KEY, n INTEGER NOT NULL, record_hash BLOB NOT NULL);
INSERT INTO "ledger_head" VALUES(1,1,X'3794F942037E0DCCB4E2F260200BB07D078B87EE30A89553B79FEE0B5A3F773E');
CREATE TABLE listeners (
            promise INTEGER NOT NULL, address TEXT NOT NULL, PRIMARY KEY (promise, address)
        ) WITHOUT ROWID
        ;
INSERT INTO "listeners" VALUES(1,'capsule://uni@g/other');
CREATE TABLE outbox (
            address TEXT NOT NULL, promise INTEGER NOT NULL, PRIMARY KEY (address, promise)
        ) WITHOUT ROWID
        ;
INSERT INTO "outbox" VALUES('capsule://uni@g/other',5);
CREATE TABLE promises (
            n INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            state TEXT NOT NULL,
            timeout_at INTEGER NOT NULL,
            created_at INTEGER NOT NULL,
            settled_at INTEGER,
            parent INTEGER,
            tags TEXT NOT NULL,
            param TEXT,
            value TEXT
        );
INSERT INTO "promises" VALUES(1,'a','pending',1701000000000,1700000000000,NULL,NULL,'{"resonate:target":"capsule://any@g"}','{"data":"cGFyYW0="}',NULL);
INSERT INTO "promises" VALUES(2,'a:1','resolved',1701000000000,1700000000000,1700000000000,1,'{"resonate:parent":"a"}','{"data":"cGFyYW0="}','{"data":"dmFsdWU="}');
INSERT INTO "promises" VALUES(3,'a:2','pending',1701000000000,1700000000000,NULL,1,'{"resonate:parent":"a"}','{"data":"cGFyYW0="}',NULL);
INSERT INTO "promises" VALUES(4,'b','pending',1701000000000,1700000000000,NULL,NULL,'{"resonate:target":"capsule://any@others"}','{"data":"cGFyYW0="}',NULL);
INSERT INTO "promises" VALUES(5,'c','rejected',1701000000000,1700000000000,1700000000000,NULL,'{}','{"data":"cGFyYW0="}','{"data":"bm8="}');
CREATE TABLE run_cells (
            run TEXT NOT NULL,
            number INTEGER NOT NULL,
            source BLOB NOT NULL,
            execution TEXT NOT NULL,
            turn INTEGER NOT NULL,
            checkpoint TEXT,
            PRIMARY KEY (run, number)
        ) WITHOUT ROWID
        ;
INSERT INTO "run_cells" VALUES('nightly',1,X'73737373737373737373737373737373','e1',1,'c1');
CREATE TABLE runs (
            id TEXT PRIMARY KEY, owner TEXT, seen REAL, started REAL NOT NULL, begun INTEGER NOT NULL DEFAULT 0
        ) WITHOUT ROWID
        ;
INSERT INTO "runs" VALUES('nightly','nowhere.1.2.3',1.79527214951367139819e+09,1.79527214951367139819e+09,1);
CREATE TABLE tasks (
            n INTEGER PRIMARY KEY,
            state TEXT NOT NULL,
            version INTEGER NOT NULL,
            target TEXT NOT NULL,
            owner TEXT,
            ttl INTEGER,
            due INTEGER
        );
INSERT INTO "tasks" VALUES(1,'suspended',1,'capsule://any@g',NULL,NULL,NULL);
INSERT INTO "tasks" VALUES(4,'pending',0,'capsule://any@others',NULL,NULL,1700000000000);
CREATE INDEX promises_due ON promises (timeout_at) WHERE state = 'pending';
CREATE INDEX promises_of_parent ON promises (parent) WHERE parent IS NOT NULL;
CREATE INDEX tasks_leased ON tasks (due) WHERE state = 'acquired';
CREATE INDEX tasks_offered ON tasks (target, due) WHERE state = 'pending';
CREATE INDEX cells_of_session ON cells (session, n);
CREATE INDEX ledger_of_session ON ledger (session, n);
COMMIT;
