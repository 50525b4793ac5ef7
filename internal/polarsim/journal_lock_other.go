//go:build !unix

package polarsim

import "os"

// lock does nothing where there is no flock; two processes would then each see
// only their own steps.
func lock(*os.File) error { return nil }
