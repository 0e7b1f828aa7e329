//! What has to happen at Redis in one step.

use redis::Script;

/// The scripts of the transport.
pub(crate) struct RedisScripts {
    /// Adds a request to a stream, unless too many wait there. `KEYS`: the stream, the asker's inbox. `ARGV`: id, body, most, seconds that
    /// an unused stream lives. Returns the entry's id, or `full`, or `no inbox`.
    pub(crate) ask: Script,
    /// Reads as many new entries as there is room for, from the first stream first. `KEYS`: the streams. `ARGV`: group, consumer, room.
    pub(crate) take: Script,
    /// Posts the last letter and acknowledges the request. `KEYS`: inbox, stream. `ARGV`: group, entry, the letter's fields. Returns
    /// whether the inbox exists. If it does not, nothing happens.
    pub(crate) finish: Script,
    /// Acknowledges requests. `KEYS`: the stream. `ARGV`: group, entries.
    pub(crate) forget: Script,
    /// Renews the claims of a consumer that are still its own. `KEYS`: the stream. `ARGV`: group, consumer, the claims' idle time in
    /// milliseconds, seconds that an unused stream lives, entries.
    pub(crate) keep: Script,
    /// Removes consumers that are long gone and hold nothing. `KEYS`: the stream. `ARGV`: group, idle time in milliseconds.
    pub(crate) tidy: Script,
}

impl RedisScripts {
    pub(crate) fn new() -> Self {
        Self {
            ask: Script::new(
                r"if redis.call('EXISTS', KEYS[2]) == 0 then return 'no inbox' end
                if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[3]) then return 'full' end
                local entry = redis.call('XADD', KEYS[1], '*', 'id', ARGV[1], 'reply_to', KEYS[2], 'body', ARGV[2])
                redis.call('EXPIRE', KEYS[1], ARGV[4])
                return entry",
            ),
            take: Script::new(
                r"local taken, room = {}, tonumber(ARGV[3])
                for _, key in ipairs(KEYS) do
                    if room > 0 then
                        local read = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', room, 'STREAMS', key, '>')
                        if read then
                            taken[#taken + 1] = read[1]
                            room = room - #read[1][2]
                        end
                    end
                end
                return taken",
            ),
            finish: Script::new(
                r"if not redis.call('XADD', KEYS[1], 'NOMKSTREAM', '*', unpack(ARGV, 3)) then return 0 end
                redis.call('XACK', KEYS[2], ARGV[1], ARGV[2])
                redis.call('XDEL', KEYS[2], ARGV[2])
                return 1",
            ),
            forget: Script::new(
                r"redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 2))
                return redis.call('XDEL', KEYS[1], unpack(ARGV, 2))",
            ),
            keep: Script::new(
                r"for i = 5, #ARGV do
                    local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)
                    if pending[1] and pending[1][2] == ARGV[2] then
                        redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'IDLE', ARGV[3], 'JUSTID')
                    end
                end
                return redis.call('EXPIRE', KEYS[1], ARGV[4])",
            ),
            tidy: Script::new(
                r"for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
                    if consumer[4] == 0 and consumer[6] > tonumber(ARGV[2]) then
                        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer[2])
                    end
                end
                return 0",
            ),
        }
    }
}
