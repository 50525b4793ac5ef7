// Package web is what syncd shows and takes over HTTP: health, metrics, the
// status page and the webhook endpoint.
//
// Its invariant: nothing but a verified webhook changes anything, and no secret
// ever stands in an answer.
package web
