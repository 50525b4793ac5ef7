// Package polarsim is a simulated Polar: the list and get calls for customer
// meters over HTTP, with seeded data that can be changed while someone reads.
//
// Its invariant: every answer is one atomic snapshot of the state (but for a
// page's total_count, which [Options].CostScale makes older), and the state is
// known exactly. What [Server.Snapshot] returns is what a perfect mirror holds,
// digit by digit: quantities are kept as the text that goes over the wire.
//
// It is as unkind as the real server is allowed to be: rows that tie under the
// requested order change places between requests, nulls come where Postgres puts
// them, archived meters vanish, offsets shift under the reader. Faults beyond
// that (cut bodies, proxies' pages, outages) happen only when [Server.FailWhen]
// asks for them.
//
// [Server.Cost] says what the requests in the log would have cost Polar's database.
//
// [Server.StartWebhooks] sends webhooks about changes, as unkindly as it is told:
// late, twice, in any order, with forged ones among them.
//
// A [Server] is an http.Handler. [Server.Start] serves it on a loopback
// socket; [Server.Transport] calls it in memory. The file openapi.yaml
// describes what it answers, and the package's tests hold it to that.
//
// The package imports nothing of the mirror's, so that the two cannot share a
// misreading of the API.
package polarsim
