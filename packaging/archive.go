package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// archive writes files as an archive of a target, in a folder that says which. The
// files keep their order.
func (r *release) archive(t target, out string, files []file) error {
	top := fmt.Sprintf("postern-%s-%s", r.version, t.name())
	for i := range files {
		files[i].name = top + "/" + files[i].name
	}
	write, suffix := tarball, ".tar.gz"
	if t.os == "windows" {
		write, suffix = zipped, ".zip"
	}
	data, err := write(files, r.time)
	if err != nil {
		return fmt.Errorf("%s: %w", top, err)
	}
	return os.WriteFile(filepath.Join(out, top+suffix), data, 0o644)
}

// tarball returns files as a tar.gz. A folder is where its first file is.
func tarball(files []file, when time.Time) ([]byte, error) {
	var b bytes.Buffer
	z := gzipWriter(&b)
	w := tar.NewWriter(z)
	var failed error
	for _, f := range files {
		failed = errors.Join(failed, w.WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg, Name: f.name, Size: int64(len(f.data)), Mode: int64(f.mode),
			Uname: "root", Gname: "root", ModTime: when, Format: tar.FormatUSTAR,
		}))
		_, err := w.Write(f.data)
		failed = errors.Join(failed, err)
	}
	err := errors.Join(failed, w.Close(), z.Close())
	return b.Bytes(), err
}

// gzipWriter compresses well, and writes neither a name nor a time.
func gzipWriter(b *bytes.Buffer) *gzip.Writer {
	z, err := gzip.NewWriterLevel(b, gzip.BestCompression)
	if err != nil {
		panic(err) // of a level that does not exist
	}
	return z
}

// compressed returns a file as gzip -n9 would.
func compressed(f file) (file, error) {
	var b bytes.Buffer
	z := gzipWriter(&b)
	_, err := z.Write(f.data)
	err = errors.Join(err, z.Close())
	return file{f.name + ".gz", f.mode, b.Bytes()}, err
}

// zipped returns files as a zip.
func zipped(files []file, when time.Time) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range files {
		h := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: when}
		h.SetMode(f.mode)
		w, err := z.CreateHeader(h)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	err := z.Close()
	return b.Bytes(), err
}
