BEGIN TRANSACTION;
CREATE TABLE metrics (
	search_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	name VARCHAR(100) NOT NULL, 
	value FLOAT, 
	added BOOLEAN NOT NULL, 
	PRIMARY KEY (search_id, number, name)
)
 WITHOUT ROWID

;
INSERT INTO "metrics" VALUES(1,0,'macs',100000.0,0);
INSERT INTO "metrics" VALUES(1,0,'params',123.0,0);
INSERT INTO "metrics" VALUES(1,0,'top1',4.04843781807775471293e-02,0);
INSERT INTO "metrics" VALUES(1,1,'macs',100001.0,0);
INSERT INTO "metrics" VALUES(1,1,'params',123.0,0);
INSERT INTO "metrics" VALUES(1,1,'top1',9.18234331785131807635e-01,0);
INSERT INTO "metrics" VALUES(1,2,'macs',100002.0,0);
INSERT INTO "metrics" VALUES(1,2,'params',123.0,0);
INSERT INTO "metrics" VALUES(1,2,'top1',3.58049374694988320477e-01,0);
INSERT INTO "metrics" VALUES(1,3,'macs',100003.0,0);
INSERT INTO "metrics" VALUES(1,3,'params',123.0,0);
INSERT INTO "metrics" VALUES(1,3,'test_top1',0.91,1);
INSERT INTO "metrics" VALUES(1,3,'top1',2.81837844399703829623e-01,0);
INSERT INTO "metrics" VALUES(1,4,'macs',100004.0,0);
INSERT INTO "metrics" VALUES(1,4,'params',123.0,0);
INSERT INTO "metrics" VALUES(1,4,'top1',9.87259201033012900872e-01,0);
INSERT INTO "metrics" VALUES(1,5,'macs',100005.0,0);
INSERT INTO "metrics" VALUES(1,5,'params',123.0,0);
INSERT INTO "metrics" VALUES(1,5,'top1',9.87633446591477115461e-02,0);
INSERT INTO "metrics" VALUES(1,6,'macs',100006.0,0);
INSERT INTO "metrics" VALUES(1,6,'params',123.0,0);
INSERT INTO "metrics" VALUES(1,6,'top1',4.72142715452713357393e-01,0);
INSERT INTO "metrics" VALUES(1,7,'macs',100007.0,0);
INSERT INTO "metrics" VALUES(1,7,'params',123.0,0);
INSERT INTO "metrics" VALUES(1,7,'top1',4.34171835453783683256e-01,0);
INSERT INTO "metrics" VALUES(1,8,'macs',100008.0,0);
INSERT INTO "metrics" VALUES(1,8,'params',123.0,0);
INSERT INTO "metrics" VALUES(1,8,'top1',NULL,0);
INSERT INTO "metrics" VALUES(1,10,'macs',100010.0,0);
INSERT INTO "metrics" VALUES(1,10,'params',123.0,0);
INSERT INTO "metrics" VALUES(1,10,'top1',9.32718643524100832209e-02,0);
INSERT INTO "metrics" VALUES(1,11,'macs',100011.0,0);
INSERT INTO "metrics" VALUES(1,11,'params',123.0,0);
INSERT INTO "metrics" VALUES(1,11,'top1',6.1189708481414506469e-01,0);
INSERT INTO "metrics" VALUES(1,12,'macs',100012.0,0);
INSERT INTO "metrics" VALUES(1,12,'params',123.0,0);
INSERT INTO "metrics" VALUES(1,12,'top1',7.30278576353224795347e-01,0);
INSERT INTO "metrics" VALUES(1,13,'macs',100013.0,0);
INSERT INTO "metrics" VALUES(1,13,'params',123.0,0);
INSERT INTO "metrics" VALUES(1,13,'top1',9.17018969114949844545e-01,0);
INSERT INTO "metrics" VALUES(1,14,'macs',100014.0,0);
INSERT INTO "metrics" VALUES(1,14,'params',123.0,0);
INSERT INTO "metrics" VALUES(1,14,'top1',8.03345054146202275369e-01,0);
INSERT INTO "metrics" VALUES(1,15,'macs',100015.0,0);
INSERT INTO "metrics" VALUES(1,15,'params',123.0,0);
INSERT INTO "metrics" VALUES(1,15,'top1',9.12159538302258487973e-02,0);
INSERT INTO "metrics" VALUES(1,16,'macs',100016.0,0);
INSERT INTO "metrics" VALUES(1,16,'params',123.0,0);
INSERT INTO "metrics" VALUES(1,16,'top1',1.09057845931103680747e-01,0);
INSERT INTO "metrics" VALUES(1,17,'macs',100017.0,0);
INSERT INTO "metrics" VALUES(1,17,'params',123.0,0);
INSERT INTO "metrics" VALUES(1,17,'top1',5.47440911328423762682e-01,0);
INSERT INTO "metrics" VALUES(1,18,'macs',100018.0,0);
INSERT INTO "metrics" VALUES(1,18,'params',123.0,0);
INSERT INTO "metrics" VALUES(1,18,'top1',NULL,0);
INSERT INTO "metrics" VALUES(2,0,'macs',100000.0,0);
INSERT INTO "metrics" VALUES(2,0,'params',123.0,0);
INSERT INTO "metrics" VALUES(2,0,'top1',5.75651014164888508162e-01,0);
INSERT INTO "metrics" VALUES(2,1,'macs',100001.0,0);
INSERT INTO "metrics" VALUES(2,1,'params',123.0,0);
INSERT INTO "metrics" VALUES(2,1,'top1',1.89391328554356141999e-01,0);
INSERT INTO "metrics" VALUES(2,2,'macs',100002.0,0);
INSERT INTO "metrics" VALUES(2,2,'params',123.0,0);
INSERT INTO "metrics" VALUES(2,2,'top1',6.12773179868606687747e-01,0);
INSERT INTO "metrics" VALUES(2,3,'macs',100003.0,0);
INSERT INTO "metrics" VALUES(2,3,'params',123.0,0);
INSERT INTO "metrics" VALUES(2,3,'top1',6.90852484838988534221e-02,0);
INSERT INTO "metrics" VALUES(2,4,'macs',100004.0,0);
INSERT INTO "metrics" VALUES(2,4,'params',123.0,0);
INSERT INTO "metrics" VALUES(2,4,'top1',9.23381015946280636619e-01,0);
INSERT INTO "metrics" VALUES(2,5,'macs',100005.0,0);
INSERT INTO "metrics" VALUES(2,5,'params',123.0,0);
INSERT INTO "metrics" VALUES(2,5,'top1',8.37865231225515816326e-01,0);
INSERT INTO "metrics" VALUES(2,6,'macs',100006.0,0);
INSERT INTO "metrics" VALUES(2,6,'params',123.0,0);
INSERT INTO "metrics" VALUES(2,6,'top1',8.49485965186367097956e-01,0);
INSERT INTO "metrics" VALUES(2,7,'macs',100007.0,0);
INSERT INTO "metrics" VALUES(2,7,'params',123.0,0);
INSERT INTO "metrics" VALUES(2,7,'top1',4.50563106631155174675e-01,0);
INSERT INTO "metrics" VALUES(2,8,'macs',100008.0,0);
INSERT INTO "metrics" VALUES(2,8,'params',123.0,0);
INSERT INTO "metrics" VALUES(2,8,'top1',NULL,0);
INSERT INTO "metrics" VALUES(2,10,'macs',100010.0,0);
INSERT INTO "metrics" VALUES(2,10,'params',123.0,0);
INSERT INTO "metrics" VALUES(2,10,'top1',8.4507757567151520206e-01,0);
INSERT INTO "metrics" VALUES(2,11,'macs',100011.0,0);
INSERT INTO "metrics" VALUES(2,11,'params',123.0,0);
INSERT INTO "metrics" VALUES(2,11,'top1',7.31489220790847771702e-01,0);
INSERT INTO "metrics" VALUES(2,12,'macs',100012.0,0);
INSERT INTO "metrics" VALUES(2,12,'params',123.0,0);
INSERT INTO "metrics" VALUES(2,12,'top1',3.72060193081073187215e-01,0);
INSERT INTO "metrics" VALUES(2,13,'macs',100013.0,0);
INSERT INTO "metrics" VALUES(2,13,'params',123.0,0);
INSERT INTO "metrics" VALUES(2,13,'top1',4.26131135343857825326e-01,0);
INSERT INTO "metrics" VALUES(2,14,'macs',100014.0,0);
INSERT INTO "metrics" VALUES(2,14,'params',123.0,0);
INSERT INTO "metrics" VALUES(2,14,'top1',7.83118509846616350777e-01,0);
INSERT INTO "metrics" VALUES(2,15,'macs',100015.0,0);
INSERT INTO "metrics" VALUES(2,15,'params',123.0,0);
INSERT INTO "metrics" VALUES(2,15,'top1',0.817120303018883,0);
INSERT INTO "metrics" VALUES(2,16,'macs',100016.0,0);
INSERT INTO "metrics" VALUES(2,16,'params',123.0,0);
INSERT INTO "metrics" VALUES(2,16,'top1',1.24443722032009818079e-01,0);
INSERT INTO "metrics" VALUES(2,17,'macs',100017.0,0);
INSERT INTO "metrics" VALUES(2,17,'params',123.0,0);
INSERT INTO "metrics" VALUES(2,17,'top1',3.91209409322826884292e-01,0);
INSERT INTO "metrics" VALUES(2,18,'macs',100018.0,0);
INSERT INTO "metrics" VALUES(2,18,'params',123.0,0);
INSERT INTO "metrics" VALUES(2,18,'top1',NULL,0);
CREATE TABLE schema_version (
	version INTEGER NOT NULL
);
INSERT INTO "schema_version" VALUES(1);
CREATE TABLE searches (
	id INTEGER NOT NULL, 
	name VARCHAR(100) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	evaluation_digest VARCHAR(64) NOT NULL, 
	config TEXT NOT NULL, 
	baseline TEXT NOT NULL, 
	channels TEXT NOT NULL, 
	state VARCHAR(20) NOT NULL, 
	controller_state TEXT, 
	created_at FLOAT NOT NULL, 
	updated_at FLOAT NOT NULL, 
	owner VARCHAR(200), 
	epoch INTEGER NOT NULL, 
	claimed_at FLOAT NOT NULL, 
	renewed_at FLOAT NOT NULL, 
	lease_until FLOAT NOT NULL, 
	active_seconds FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
INSERT INTO "searches" VALUES(1,'digits-random','dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd','eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee','{"name": "digits-random", "objectives": ["top1 max", "macs min"], "limits": {"trials": 20}}','{"top1": 0.97, "macs": 1000000.0, "test_top1": 0.95}','{"a": 16, "b": 32}','interrupted','{"asked": 19}',1790000000.5,1790000021.5,NULL,1,1790000000.75,1790000021.25,0.0,20.5);
INSERT INTO "searches" VALUES(2,'digits-tpe','ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff','eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee','{"name": "digits-tpe", "objectives": ["top1 max", "macs min"], "limits": {"trials": 20}}','{"top1": 0.97, "macs": 1000000.0}','{"a": 16, "b": 32}','interrupted','{"asked": 19}',1790000021.75,1790000042.75,NULL,1,1790000022.0,1790000042.5,0.0,20.5);
CREATE TABLE trials (
	search_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	digest VARCHAR(16) NOT NULL, 
	widths TEXT NOT NULL, 
	state VARCHAR(20) NOT NULL, 
	reason TEXT NOT NULL, 
	attempt INTEGER NOT NULL, 
	note TEXT NOT NULL, 
	timings TEXT NOT NULL, 
	worker VARCHAR(200) NOT NULL, 
	duplicate_of VARCHAR(120) NOT NULL, 
	started_at FLOAT NOT NULL, 
	finished_at FLOAT, 
	PRIMARY KEY (search_id, number), 
	FOREIGN KEY(search_id) REFERENCES searches (id)
)
 WITHOUT ROWID

;
INSERT INTO "trials" VALUES(1,0,'a33c59874c6f9558','{"a": 13, "b": 27}','complete','',1,'{"origin": "uniform", "params": [0, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000001.25,1790000001.75);
INSERT INTO "trials" VALUES(1,1,'167d07eccf5a3649','{"a": 16, "b": 26}','complete','',1,'{"origin": "uniform", "params": [1, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000002.25,1790000002.75);
INSERT INTO "trials" VALUES(1,2,'b0718ebf151df380','{"a": 10, "b": 31}','complete','',1,'{"origin": "uniform", "params": [2, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000003.25,1790000003.75);
INSERT INTO "trials" VALUES(1,3,'e09aa5ba6f36abc8','{"a": 7, "b": 9}','complete','',1,'{"origin": "search", "params": [3, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000004.25,1790000004.75);
INSERT INTO "trials" VALUES(1,4,'9aa3881fc26a33a6','{"a": 4, "b": 17}','complete','',1,'{"origin": "search", "params": [4, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000005.25,1790000005.75);
INSERT INTO "trials" VALUES(1,5,'161d4d347992777f','{"a": 5, "b": 20}','complete','',1,'{"origin": "search", "params": [5, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000006.25,1790000006.75);
INSERT INTO "trials" VALUES(1,6,'b8f8e6d3541a77ec','{"a": 3, "b": 22}','stopped','because it''s stopped',1,'{"origin": "search", "params": [6, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000007.25,1790000007.75);
INSERT INTO "trials" VALUES(1,7,'95da3f87a52c73ad','{"a": 4, "b": 23}','infeasible','because it''s infeasible',2,'{"origin": "search", "params": [7, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000008.75,1790000009.0);
INSERT INTO "trials" VALUES(1,8,'fc368e95026b36dc','{"a": 7, "b": 31}','diverged','because it''s diverged',1,'{"origin": "search", "params": [8, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000009.5,1790000010.0);
INSERT INTO "trials" VALUES(1,9,'ad324219baec78a9','{"a": 15, "b": 17}','failed','because it''s failed',1,'{"origin": "search", "params": [9, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000010.5,1790000011.0);
INSERT INTO "trials" VALUES(1,10,'21501dbaf73f5223','{"a": 2, "b": 1}','complete','',1,'{"origin": "search", "params": [10, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000011.5,1790000012.0);
INSERT INTO "trials" VALUES(1,11,'e9aca5044b59e300','{"a": 13, "b": 1}','complete','',1,'{"origin": "search", "params": [11, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000012.5,1790000013.0);
INSERT INTO "trials" VALUES(1,12,'36086070504a1134','{"a": 11, "b": 16}','complete','',1,'{"origin": "search", "params": [12, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000013.5,1790000014.0);
INSERT INTO "trials" VALUES(1,13,'860bcb292f53477a','{"a": 3, "b": 13}','complete','',1,'{"origin": "search", "params": [13, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000014.5,1790000015.0);
INSERT INTO "trials" VALUES(1,14,'fc5fc01c72ab3e50','{"a": 8, "b": 16}','complete','',1,'{"origin": "search", "params": [14, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000015.5,1790000016.0);
INSERT INTO "trials" VALUES(1,15,'04202e72e80e2f80','{"a": 5, "b": 29}','complete','',1,'{"origin": "search", "params": [15, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000016.5,1790000017.0);
INSERT INTO "trials" VALUES(1,16,'e8d317ba8dba1cbb','{"a": 11, "b": 32}','stopped','because it''s stopped',1,'{"origin": "search", "params": [16, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000017.5,1790000018.0);
INSERT INTO "trials" VALUES(1,17,'95baca128171d59e','{"a": 10, "b": 8}','infeasible','because it''s infeasible',1,'{"origin": "search", "params": [17, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000018.5,1790000019.0);
INSERT INTO "trials" VALUES(1,18,'8ffb1adb986cdc3b','{"a": 7, "b": 19}','diverged','because it''s diverged',1,'{"origin": "search", "params": [18, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000019.5,1790000020.0);
INSERT INTO "trials" VALUES(1,19,'1dd6c0c623cb2b97','{"a": 15, "b": 6}','running','',1,'{"origin": "search", "params": [19, 0.5]}','{}','','',1790000020.5,NULL);
INSERT INTO "trials" VALUES(2,0,'5b226c4fd3482c2e','{"a": 13, "b": 21}','complete','',1,'{"origin": "uniform", "params": [0, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000022.5,1790000023.0);
INSERT INTO "trials" VALUES(2,1,'22303862a39ac69c','{"a": 10, "b": 12}','complete','',1,'{"origin": "uniform", "params": [1, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000023.5,1790000024.0);
INSERT INTO "trials" VALUES(2,2,'a9ab9148def757d5','{"a": 6, "b": 3}','complete','',1,'{"origin": "uniform", "params": [2, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000024.5,1790000025.0);
INSERT INTO "trials" VALUES(2,3,'e133048939e04be1','{"a": 9, "b": 31}','complete','',1,'{"origin": "search", "params": [3, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000025.5,1790000026.0);
INSERT INTO "trials" VALUES(2,4,'a5648b934076fa67','{"a": 5, "b": 10}','complete','',1,'{"origin": "search", "params": [4, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000026.5,1790000027.0);
INSERT INTO "trials" VALUES(2,5,'845736444c6e02d6','{"a": 3, "b": 26}','complete','',1,'{"origin": "search", "params": [5, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000027.5,1790000028.0);
INSERT INTO "trials" VALUES(2,6,'fd6d1afc29f84696','{"a": 9, "b": 16}','stopped','because it''s stopped',1,'{"origin": "search", "params": [6, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000028.5,1790000029.0);
INSERT INTO "trials" VALUES(2,7,'7f045cabb964d660','{"a": 14, "b": 18}','infeasible','because it''s infeasible',2,'{"origin": "search", "params": [7, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000030.0,1790000030.25);
INSERT INTO "trials" VALUES(2,8,'ae7ea2eb1de9963c','{"a": 12, "b": 6}','diverged','because it''s diverged',1,'{"origin": "search", "params": [8, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000030.75,1790000031.25);
INSERT INTO "trials" VALUES(2,9,'1b701c93eacdd678','{"a": 11, "b": 8}','failed','because it''s failed',1,'{"origin": "search", "params": [9, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000031.75,1790000032.25);
INSERT INTO "trials" VALUES(2,10,'3644163ceb3d48a6','{"a": 16, "b": 22}','complete','',1,'{"origin": "search", "params": [10, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000032.75,1790000033.25);
INSERT INTO "trials" VALUES(2,11,'d4a4007897b5c45c','{"a": 8, "b": 2}','complete','',1,'{"origin": "search", "params": [11, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000033.75,1790000034.25);
INSERT INTO "trials" VALUES(2,12,'1135aa75b65178b1','{"a": 4, "b": 15}','complete','',1,'{"origin": "search", "params": [12, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','digits-random/3',1790000034.75,1790000035.25);
INSERT INTO "trials" VALUES(2,13,'c8f17f2b96a1aabb','{"a": 6, "b": 22}','complete','',1,'{"origin": "search", "params": [13, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000035.75,1790000036.25);
INSERT INTO "trials" VALUES(2,14,'3803ad6af8694266','{"a": 2, "b": 7}','complete','',1,'{"origin": "search", "params": [14, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000036.75,1790000037.25);
INSERT INTO "trials" VALUES(2,15,'6d845b1dc85207bc','{"a": 8, "b": 3}','complete','',1,'{"origin": "search", "params": [15, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000037.75,1790000038.25);
INSERT INTO "trials" VALUES(2,16,'34600dd287a7fe51','{"a": 3, "b": 2}','stopped','because it''s stopped',1,'{"origin": "search", "params": [16, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000038.75,1790000039.25);
INSERT INTO "trials" VALUES(2,17,'260415bdb18f7463','{"a": 7, "b": 8}','infeasible','because it''s infeasible',1,'{"origin": "search", "params": [17, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000039.75,1790000040.25);
INSERT INTO "trials" VALUES(2,18,'45620025c03241aa','{"a": 12, "b": 8}','diverged','because it''s diverged',1,'{"origin": "search", "params": [18, 0.5]}','{"evaluate": 0.5, "wait": 0.01}','127.0.0.1:99','',1790000040.75,1790000041.25);
INSERT INTO "trials" VALUES(2,19,'ae791df4376e72c3','{"a": 2, "b": 2}','running','',1,'{"origin": "search", "params": [19, 0.5]}','{}','','',1790000041.75,NULL);
CREATE INDEX ix_searches_evaluation_digest ON searches (evaluation_digest);
CREATE INDEX metrics_by_value ON metrics (search_id, name, value, number);
CREATE INDEX trials_by_state ON trials (search_id, state);
CREATE INDEX ix_trials_digest ON trials (digest);
COMMIT;
