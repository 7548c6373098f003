return {
  ["/probe"] = {
    GET = function()
      kong.response.exit(200, "status of the probe")
    end,
  },
}
