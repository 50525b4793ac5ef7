package localpg

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFetchedBinariesAreUnpackedOnceAndKept(t *testing.T) {
	t.Parallel()
	var downloads atomic.Int32
	jar := archive(t)
	sum := sha256.Sum256(jar)
	repository := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch filepath.Ext(r.URL.Path) {
		case ".jar":
			downloads.Add(1)
			_, _ = w.Write(jar)
		case ".sha256":
			_, _ = w.Write([]byte(hex.EncodeToString(sum[:])))
		}
	}))
	t.Cleanup(repository.Close)
	cache := openTempDir(t)
	want := Binaries{Dir: filepath.Join(cache, "postgres-17.5.0", "bin"), Major: 17, Version: "17.5"}
	options := Options{
		DataDir:         filepath.Join(openTempDir(t), ".syncd"),
		ignoreInstalled: true,
		repository:      repository.URL,
		cacheDir:        cache,
	}
	for range 2 {
		s, err := newServer(options)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.resolve(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("binaries (-want +got):\n%s", diff)
		}
	}
	if _, err := Start(t.Context(), options); err == nil || !strings.HasSuffix(err.Error(), "initdb: exit status 1: the stars are wrong") {
		t.Errorf("start: %v, want what initdb said last", err)
	}
	if n := downloads.Load(); n != 1 {
		t.Errorf("downloaded %d times", n)
	}
	left, err := filepath.Glob(filepath.Join(cache, "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 2 { // the lock and the binaries
		t.Errorf("left in the cache: %v", left)
	}
}

func TestWithoutPostgresTheErrorNamesTheCure(t *testing.T) {
	t.Parallel()
	empty := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(empty.Close)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for name, repository := range map[string]string{"nothing there": empty.URL, "unreachable": gone.URL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cache := t.TempDir()
			_, err := Start(t.Context(), Options{
				DataDir:         filepath.Join(t.TempDir(), ".syncd"),
				ignoreInstalled: true,
				repository:      repository,
				cacheDir:        cache,
			})
			if !errors.Is(err, ErrNoPostgres) {
				t.Errorf("not ErrNoPostgres: %v", err)
			}
			for _, part := range []string{"apt-get install postgresql", "brew install", "database.url"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q says nothing of %q", err, part)
				}
			}
			left, err := filepath.Glob(filepath.Join(cache, "*"))
			if err != nil {
				t.Fatal(err)
			}
			if len(left) != 1 { // the lock
				t.Errorf("left in the cache: %v", left)
			}
		})
	}
}

// A demonstration's folder may lie in that of the real thing.
func TestFolderOfADatabaseMayLieInThatOfAnother(t *testing.T) {
	t.Parallel()
	outer := t.TempDir()
	for _, dir := range []string{filepath.Join(outer, "demo"), outer} {
		h, err := openHome(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := lock(t.Context(), h.path(startLock)); err != nil {
			t.Fatal(err)
		}
	}
}

// openTempDir is a folder that the account to which root hands Postgres may
// enter.
func openTempDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for up := dir; up != os.TempDir() && up != "/"; up = filepath.Dir(up) {
		if err := os.Chmod(up, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// archive is a download as the repository has it: a zip of a tar.xz, here with
// programs that only know their version.
func archive(t testing.TB) []byte {
	t.Helper()
	var tarball bytes.Buffer
	tw := tar.NewWriter(&tarball)
	for name, script := range map[string]string{
		"postgres": "echo 'postgres (PostgreSQL) 17.5'",
		"initdb":   "echo 'the stars are wrong' >&2; echo; exit 1",
		"pg_ctl":   "exit 1",
	} {
		body := "#!/bin/sh\n" + script + "\n"
		if err := tw.WriteHeader(&tar.Header{Name: "bin/" + name, Mode: 0o755, Size: int64(len(body)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	var jar bytes.Buffer
	zw := zip.NewWriter(&jar)
	f, err := zw.Create("postgres.txz")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(storedXZ(tarball.Bytes())); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return jar.Bytes()
}

// storedXZ wraps data, which must be under 64 KiB, in an xz stream of one block
// with one uncompressed chunk. The standard library has no xz.
// https://tukaani.org/xz/xz-file-format.txt
func storedXZ(data []byte) []byte {
	flags := []byte{0, 1} // check: CRC32
	out := append([]byte("\xfd7zXZ\x00"), withCRC(flags)...)

	header := []byte{2, 0, 0x21, 1, 0x10, 0, 0, 0} // 12 bytes; LZMA2 with a dictionary of 1 MiB
	block := append(withCRC(header), 1)
	block = binary.BigEndian.AppendUint16(block, uint16(len(data)-1))
	block = append(append(block, data...), 0)
	unpadded := len(block) + 4 // with the check
	block = binary.LittleEndian.AppendUint32(pad4(block), crc32.ChecksumIEEE(data))
	out = append(out, block...)

	index := []byte{0, 1}
	index = binary.AppendUvarint(index, uint64(unpadded))
	index = withCRC(pad4(binary.AppendUvarint(index, uint64(len(data)))))
	out = append(out, index...)

	footer := append(binary.LittleEndian.AppendUint32(nil, uint32(len(index)/4-1)), flags...)
	out = binary.LittleEndian.AppendUint32(out, crc32.ChecksumIEEE(footer))
	return append(append(out, footer...), "YZ"...)
}

func withCRC(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(bytes.Clone(b), crc32.ChecksumIEEE(b))
}

func pad4(b []byte) []byte {
	return append(b, make([]byte, (4-len(b)%4)%4)...)
}

func TestNewestUsableVersionWins(t *testing.T) {
	t.Parallel()
	found := []Binaries{
		{Dir: "a", Major: 13, Version: "13.21"},
		{Dir: "b", Major: 15, Version: "15.18"},
		{Dir: "c", Major: 16, Version: "16.1"},
		{Dir: "d", Major: 16, Version: "16.1"},
		{Dir: "e", Major: 19, Version: "19devel"},
	}
	for major, want := range map[int]string{0: "c", 13: "", 14: "", 15: "b", 16: "c"} {
		var best Binaries
		for _, b := range found {
			if b.better(best, major) {
				best = b
			}
		}
		if best.Dir != want {
			t.Errorf("version %d: got %q, want %q", major, best.Dir, want)
		}
	}
}

func TestErrorsSayWhatPostgresSaidLast(t *testing.T) {
	t.Parallel()
	for output, want := range map[string]string{
		"LOG:  starting\nFATAL:  could not write lock file \"postmaster.pid\": No space left on device\n": "free some space",
		"initdb: error: could not access directory \"x\": Permission denied\n":                            "folder you can write to",
		"FATAL:  out of luck\nLOG:  database system is shut down\n":                                       ": FATAL:  out of luck",
		"LOG:  could not bind IPv4 address \"127.0.0.1\": Address already in use\n":                       errPortTaken.Error(),
		"FATAL:  pre-existing shared memory block (key 1, ID 2) is still in use\n":                        errOrphans.Error(),
		"initdb: could not look up effective user ID 4242: user does not exist\n":                         "user ID 4242: user does not exist: run as a user that /etc/passwd knows",
		"creating directory ... ok\n\nKilled by the wind  \n\n":                                           ": Killed by the wind",
		" \n": "initdb: " + os.ErrInvalid.Error(),
	} {
		got := describe(t.Context(), "initdb", os.ErrInvalid, output).Error()
		if !strings.Contains(got, want) || strings.HasSuffix(got, ": ") {
			t.Errorf("%q became %q, without %q", output, got, want)
		}
	}
}
