// Package store is Postgres: the schema's migrations, the lock and the record of
// runs, and the blocks of customer meters that runs write.
//
// Its invariants:
//
//   - All writes to an organization's rows happen on the one connection that
//     holds that organization's advisory lock (a [Session]). Losing the connection
//     loses the lock and the ability to write at once. What webhooks and refresh bring
//     ([Claim], [Store.Apply]) is written without the lock, since newer
//     wins whatever the order of the writes; so is what a start removes
//     ([Store.Exclude]), and the demo's past.
//   - A block's rows, history and suspects, the run's counts and its cursor move in one
//     transaction, so that a crash leaves all of a block or nothing of it.
//   - A row is written only if it is newer than the stored one, or as old and
//     different, or if Polar was asked for that very row and insists. What is
//     unchanged is not locked, so it gets no new version.
//   - No row is removed, and none is marked deleted but by [Session.MarkDeleted].
//
// It knows nothing of HTTP.
package store
