package srt

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStreamID(t *testing.T) {
	for in, want := range map[string]StreamID{
		"live/cam":                       {Resource: "live/cam"},
		"/live/cam":                      {Resource: "live/cam"},
		"cam":                            {Resource: "cam"},
		"live/cam?token=":                {Resource: "live/cam", Query: "token="},
		"":                               {Bad: true},
		"#!:x":                           {Resource: "#!:x", Bad: true},
		"#!::":                           {Bad: true},
		"#!::m=publish":                  {Publish: true, Bad: true},
		"#!::r=live/cam,m=publish":       {Publish: true, Resource: "live/cam"},
		"#!::r=live/cam,m=request":       {Resource: "live/cam"},
		"#!::r=live/cam,m=bidirectional": {Resource: "live/cam", Bad: true},
		"#!::r=live/cam,t=file":          {Resource: "live/cam", Bad: true},
		"#!::h=live/cam,m=publish":       {Publish: true, Resource: "live/cam"},
		"#!::h=host.example,r=live/cam":  {Host: "host.example", Resource: "live/cam"},
		"#!::r=live/cam,u=me,s=tok,token=x,vhost=v": {Resource: "live/cam", User: "me", Session: "tok", Query: "token=x&vhost=v"},
		"#!::r=live/cam?token=x,m=publish":          {Publish: true, Resource: "live/cam", Query: "token=x"},
		"#!::{r=live/cam,m=publish}":                {Publish: true, Resource: "live/cam"},
		"#!::{r=live/cam":                           {Bad: true},
		"#!::r=live/cam,junk":                       {Resource: "live/cam", Bad: true},
	} {
		require.Equal(t, want, ParseStreamID(in), in)
	}
}
