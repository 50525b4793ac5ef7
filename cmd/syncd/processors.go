package main

import "runtime"

// shareProcessors leaves half of the processors to others: Postgres often runs
// on the same machine, has most of the work, and waits where the collector of
// this program takes what looks idle. One processor keeps up with several times
// what Polar's limit lets through. The environment's GOMAXPROCS decides if it is
// set.
func shareProcessors(lookupEnv func(string) (string, bool)) {
	if _, set := lookupEnv("GOMAXPROCS"); set {
		return
	}
	runtime.GOMAXPROCS(max(1, min(4, runtime.GOMAXPROCS(0)/2)))
}
