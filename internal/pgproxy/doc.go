// Package pgproxy holds what may stand between syncd and Postgres: a [Pooler],
// which lends server connections to its clients, and a [Wire], which can be cut.
// It is for tests.
//
// Its invariant: a proxy ends with the test that started it, and so does all
// that it opened.
package pgproxy
