// Package migrations embeds the goose migrations of schema polar.
//
// Its invariant: a migration that has been released never changes, and the
// previous release of syncd keeps working on the schema that the newest one
// leaves behind, unless the newest one says otherwise in
// polar.schema_compatibility.
package migrations

import "embed"

// FS holds the migrations in the order of their numbers: those of the first
// release, a file per subject, and after it one change each.
//
//go:embed *.sql
var FS embed.FS
