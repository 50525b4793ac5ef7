// Package check holds tests of the files in deploy against what reads them.
//
// Its invariant: a key that Compose or Kubernetes does not know, or a value of
// the wrong shape, fails a test, without a network and without either of them.
//
// It is a module of its own, so that the program depends on neither.
package check
