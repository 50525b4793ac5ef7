package localpg

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

const (
	dataName     = "data"
	stagingName  = "data.new-"
	passwordName = "password"
	portName     = "port"
	passfileName = "pgpass"
	servicesName = "pg_service.conf"
	logName      = "postgres.log"
	startLock    = "start.lock"
	usersLock    = "users.lock"
	tempName     = ".tmp-"
)

// home is the folder everything lives in.
type home struct{ dir string } // absolute

func (h home) path(name string) string { return filepath.Join(h.dir, name) }

// openHome makes or checks the folder. It refuses one with other people's files
// in it, and one of another owner.
func openHome(dataDir string) (home, error) {
	dir, err := filepath.Abs(dataDir)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return home{}, fmt.Errorf("make the folder of the embedded database: %w; run syncd in a folder you can write to, or set database.data_dir to one", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return home{}, fmt.Errorf("database.data_dir: %w", err)
	}
	h := home{dir}
	// Root could use it, and would leave files there that lock the owner out.
	if uid, _ := owner(info); uid != os.Geteuid() {
		return home{}, fmt.Errorf("database.data_dir %s belongs to user id %d, not to you (%d): run as that user, or set database.data_dir to a folder of yours", dir, uid, os.Geteuid())
	}
	entries, err := h.entries()
	if err != nil {
		return home{}, fmt.Errorf("database.data_dir: %w", err)
	}
	// Looked for last: a process that started at the same moment may just have
	// written the first files.
	if len(entries) > 0 && !isHome(dir) {
		return home{}, fmt.Errorf("database.data_dir %s holds other files (%s): set database.data_dir to a new or empty folder", dir, entries[0].Name())
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(dir, 0o700); err != nil {
			return home{}, fmt.Errorf("make database.data_dir private: %w", err)
		}
	}
	return h, nil
}

// Missing reports whether a data folder is not there yet, or is ours and has nothing
// in it.
func Missing(dataDir string) bool {
	info, err := os.Stat(dataDir)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	uid, _ := owner(info)
	entries, err := home{dataDir}.entries()
	return err == nil && len(entries) == 0 && uid == os.Geteuid()
}

// entries are what is in the folder, without other folders like it: that of a
// demonstration may lie in that of the real thing.
func (h home) entries() ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(h.dir)
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return isHome(h.path(e.Name())) }), err
}

// isHome reports whether a folder bears our mark: the start lock, which Start
// takes before it writes anything else.
func isHome(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, startLock))
	return err == nil
}

func owner(info fs.FileInfo) (uid, gid int) {
	st := info.Sys().(*syscall.Stat_t)
	return int(st.Uid), int(st.Gid)
}

// write replaces a file at once, readable by the folder's owner only, unless it
// holds the content already. A crash leaves the old file and perhaps a temporary
// one, which sweep removes.
func (h home) write(name, content string) error {
	if old, err := os.ReadFile(h.path(name)); err == nil && string(old) == content {
		return nil
	}
	f, err := os.CreateTemp(h.dir, tempName) // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", h.path(name), explain(err))
	}
	_, err = f.WriteString(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), h.path(name))
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", h.path(name), explain(err))
	}
	return nil
}

// ensurePassword returns the password, made on the first call in this folder.
// It is stored before initdb uses it, so that a crash in between costs nothing.
func (h home) ensurePassword() (string, error) {
	raw, err := os.ReadFile(h.path(passwordName))
	if err == nil && len(raw) > 0 {
		return strings.TrimSpace(string(raw)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the password of the embedded database: %w", err)
	}
	if _, err := os.Stat(h.path(dataName)); err == nil {
		return "", fmt.Errorf("%s is missing, and without it the data in %s can't be opened: put it back, or remove the folder to begin with an empty database", h.path(passwordName), h.dir)
	}
	password := rand.Text() // 128 bits or more, of letters and digits
	return password, h.write(passwordName, password+"\n")
}

// number is what a file holds, 0 if it is missing or holds no number.
func (h home) number(name string) int {
	raw, _ := os.ReadFile(h.path(name))
	n, _ := strconv.Atoi(strings.TrimSpace(string(raw)))
	return n
}

// writePassfile lets psql find the password. The line names the port, because
// psql would tell the password to whoever answers there.
// https://www.postgresql.org/docs/current/libpq-pgpass.html
func (h home) writePassfile(port int, password string) error {
	return h.write(passfileName, fmt.Sprintf("%s:%d:*:%s:%s\n", loopback, port, roleName, password))
}

// sweep removes what killed processes left half done. The caller holds the
// start lock. An initdb orphaned by a kill may still write into its folder and
// so outlive this; the next sweep gets it.
func (h home) sweep() {
	entries, err := os.ReadDir(h.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), stagingName) || strings.HasPrefix(e.Name(), tempName) {
			_ = os.RemoveAll(h.path(e.Name()))
		}
	}
}
