-- Asks Portcullis' gate about a request and leaves its answer in variables; haproxy.cfg acts on them.
--
-- `authz_status` is set last: when anything here fails it stays unset, and haproxy.cfg answers 503.

-- Headers that belong to one connection, or to a body that is not sent.
local SKIP = {
  connection = true, upgrade = true, ["keep-alive"] = true, te = true, trailer = true, ["transfer-encoding"] = true,
  ["content-length"] = true, expect = true, host = true, ["proxy-connection"] = true,
}

core.register_action("forward_auth", { "http-req" }, function(txn, url, address)
  local headers = {}
  for name, values in pairs(txn.http:req_get_headers()) do
    if not SKIP[name] then
      headers[name] = {}
      -- In the order in which they came; counted from 0, which `pairs` would give last.
      local at = 0
      while values[at] do
        table.insert(headers[name], values[at])
        at = at + 1
      end
    end
  end

  -- HAProxy's client would add `accept: */*`, and a WebSocket or a script would be redirected like a page.
  if not headers["accept"] then headers["accept"] = { "" } end

  local ok, response = pcall(function()
    return core.httpclient():get{ url = url, dst = address, headers = headers, timeout = 6000 }
  end)
  if not ok or not response or not response.status then return end

  local function first(name)
    local values = response.headers and response.headers[name]
    return values and values[0] -- counted from 0
  end
  txn:set_var("txn.authz_location", first("location") or "")
  local challenge = first("www-authenticate")
  if challenge then txn:set_var("txn.authz_challenge", challenge) end
  for _, name in ipairs({ "user", "groups", "name", "email" }) do
    local value = first("remote-" .. name)
    if value then txn:set_var("txn.remote_" .. name, value) end
  end
  txn:set_var("txn.authz_status", response.status)
end, 2)
