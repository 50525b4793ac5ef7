// Package localpg runs the embedded database: a real Postgres whose files live
// in one folder, so that the program needs nothing configured.
//
// Its invariants:
//   - A data folder has at most one server, whatever number of processes use it
//     and in whichever order they come, go or are killed. Whoever needs the
//     server holds a shared lock; whoever leaves last stops it. After kill -9 of
//     the only user the server stays, and the next user adopts it.
//   - Only the folder's owner can open the database: it listens on 127.0.0.1
//     alone, asks everybody for a random password (SCRAM), and keeps it in files
//     only the owner reads. The password is in no process's arguments, no log
//     and no error.
//   - A folder that held anything else is never touched.
//
// What is in the folder:
//
//	data/            Postgres's own files; of another account when we are root
//	data.new-*/      an initdb under way; renamed to data once complete
//	password         the password of role syncd
//	port             the port used last, asked for again so that addresses last
//	pg_service.conf  an empty service, so that PGSERVICE names no other server
//	pgpass           password file for psql; exists only while the server runs
//	postgres.log     the server's log, cut at 8 MiB; postgres.log.1 is what was cut
//	start.lock       held while starting and stopping; also marks the folder as ours
//	users.lock       held shared by every user
//
// The locks are flock(2): one folder must not be shared between machines or
// between containers that do not see each other's processes.
package localpg
