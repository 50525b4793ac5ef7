// Package fetch is Polar over HTTP: the list and the get of customer meters,
// paced, retried, and with errors that say what to do.
//
// Its invariants: a result is one whole answer to one request, read to its end
// and decoded, never a part of one. An access token goes to the configured
// server alone and shows up nowhere else. Everyone who uses one token waits in
// one line, so that its budget holds however many organizations share it.
package fetch
