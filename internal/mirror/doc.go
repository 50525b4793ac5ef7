// Package mirror joins Polar and Postgres: full runs that read all of an
// organization's customer meters, by a walk or by a sweep, ticks that read what
// changed, and the schedule that starts them.
//
// Its invariant: a run counts as succeeded only if every page it needed was
// seen, and as exact only if its pages prove it. What a page proves, and how
// pages add up, is in proof.go; what ranks prove is in rank.go. All that runs write
// to an organization's rows goes through the one [store.Session] that holds its
// lock; webhooks and refresh write without it, since newer wins.
package mirror
