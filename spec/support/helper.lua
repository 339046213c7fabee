-- Loaded once, before any spec: what has to outlive busted's insulation of one spec file from the next.
--
-- busted forgets the modules a file has loaded when the file ends. Those below are loaded here, so that there is one
-- libuv loop, one list of things to clean up and one set of processes for the whole run.

require "luv"
require("spec.support.cleanup").install()
require "spec.support.wait"
require "spec.support.c"
require "spec.support.kafka"
require "spec.support.process"
