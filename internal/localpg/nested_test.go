package localpg_test

import (
	"path/filepath"
	"testing"

	"polarmirror/internal/localpg"
)

func TestFolderOfADatabaseMayLieInThatOfAnother(t *testing.T) {
	t.Parallel()
	large(t)
	outer := dataDir(t)
	for _, dir := range []string{filepath.Join(outer, "demo"), outer} {
		s, err := localpg.Start(t.Context(), options(dir))
		if err != nil {
			t.Fatalf("start in %s: %v", dir, err)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Errorf("close in %s: %v", dir, err)
		}
	}
}
