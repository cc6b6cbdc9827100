// Written by practicum. A machine is known by the address that is called.
//
// The proxy hands on the browser's Host header, and Node.js would look for that name (or for that
// of an SSH tunnel, or of a site's own front door) in the certificate of a session on a compute
// node. Without a servername it looks for the address it connects to, which is what is in there.
"use strict";
const net = require("net");
const tls = require("tls");

const connect = tls.connect;
tls.connect = function (options, ...more) {
  if (options && typeof options === "object" && net.isIP(options.host || "")) {
    options = { ...options, servername: "" };
  }
  return connect.call(this, options, ...more);
};
