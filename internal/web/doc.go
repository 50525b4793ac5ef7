// Package web is syncd over HTTP: health checks, metrics, the status page and
// the webhook endpoint.
//
// Its invariants: nothing here writes, but for the webhook endpoint. Who reads
// the page or the metrics from beyond this machine shows a credential; health
// checks and webhooks are open, and tell nobody more than names of
// organizations and ages. However many ask, health checks cost the database two
// connections at most. No answer holds a secret, a connection string or an
// error's own text.
package web
