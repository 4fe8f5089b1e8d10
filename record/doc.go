// Package record keeps live media beyond its stream, and plays it back.
//
// A Recorder follows a hub and writes streams to a stream.Storage as MP4, FLV or
// HLS; Repair completes what a process left that was killed; Verify compares a
// recording with its manifest. A Library lists, deletes and retains what there is,
// and a Handler serves it.
//
// Dir is a stream.Storage in a directory, package record/s3store has one in a bucket,
// and Encrypt wraps either. Package record/storagetest checks others.
package record
