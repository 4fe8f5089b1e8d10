package turnauth

import "github.com/runnel-media/runnel/auth"

// ClientCert is auth.ClientCert, which holds for all protocols.
type ClientCert = auth.ClientCert
