// Package mirror joins Polar and Postgres: walks that read every page of an
// organization's customer meters, ticks that read what changed, and the
// schedule that starts them.
//
// Its invariant: a run counts as succeeded only if every page it needed was
// seen, and as exact only if its pages prove it. What a page proves, and how
// pages add up, is in proof.go; everything that touches an organization's rows
// goes through the one [store.Session] that holds its lock.
package mirror
