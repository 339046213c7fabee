-- Control is held up now and then between reading its clocks and reading what workers said.

local scene = require "spec.crash.scene"

for name, url in pairs(scene.brokers) do
    describe("control on a busy machine, on " .. name, function()
        it("never lets a hold end early, though its clock was read before the handler said retry", function()
            local s = scene.new { url = url, work_seconds = 0.01 }
            s:publish(2000)
            local p = s:run { SHOVE_STALL = "40:60" }
            assert.equal(0, (s:finish(p)))
            s:judge(0)
        end)
    end)
end
