// Package store is Postgres: the schema's migrations, the lock and the
// book-keeping of runs, and the blocks of customer meters that runs write.
//
// Its invariants:
//
//   - All writes to an organization's rows happen on the one connection that
//     holds that organization's advisory lock (a [Session]). Who loses the
//     connection loses the lock and the power to write by the same stroke.
//     Only what webhooks tell of ([Claim], [Store.Apply]) is written without
//     it, since newer wins in whichever order the two write.
//   - Rows, history, suspects, the run's counts and its cursor move in one
//     transaction, so that a crash leaves all of a block or nothing of it.
//   - A row is written only if it is newer than the stored one, or as old and
//     different. What is unchanged is not locked, so it gets no new version.
//   - No row is removed, and none is marked deleted but by [Session.MarkDeleted].
//
// It knows nothing of HTTP.
package store
