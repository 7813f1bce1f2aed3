PRAGMA application_id = 1130459205;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE callbacks (
            awaited INTEGER NOT NULL, awaiter INTEGER NOT NULL, PRIMARY KEY (awaited, awaiter)
        ) WITHOUT ROWID
        ;
INSERT INTO "callbacks" VALUES(3,1);
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
COMMIT;
