//! Lua scripts: their text, and the hash Redis knows them by.
//!
//! Decides: what runs inside Redis. Each script names all its keys, all of one slot, and answers an
//! integer or one string; never an array, whose content the library would read as protocol.

use std::sync::LazyLock;

use fred::types::{ClusterHash, CustomCommand, Key, Value};
use fred::util::{redis_keyslot, sha1_hash};

use super::counters::Failure;

/// Where in a Redis Cluster a command of ours goes: by the slot of a key. Not by where the key stands among
/// the arguments: the library forgets that, hashes what comes first, and is redirected nearly every time.
pub(super) fn slot_of(key: &Key) -> ClusterHash {
    ClusterHash::Custom(redis_keyslot(key.as_bytes()))
}

/// A script, and the hash Redis knows it by.
pub(super) struct Script {
    pub(super) text: String,
    pub(super) hash: String,
}

impl Script {
    fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { hash: sha1_hash(&text), text }
    }

    /// Runs it on keys of one slot, by its hash, and by its text where Redis does not know the hash yet.
    /// `send` sends the command: not the library's own method for scripts, which ignores time budgets.
    pub(super) async fn run<T, A>(
        &self,
        keys: &[Key],
        arguments: &[Value],
        send: impl Fn(CustomCommand, Vec<Value>) -> A,
    ) -> Result<T, Failure>
    where
        A: Future<Output = Result<T, Failure>>,
    {
        let count = i64::try_from(keys.len()).unwrap_or(i64::MAX);
        let slot = keys.first().map_or(ClusterHash::Random, slot_of);
        let call = |verb, script: &str| {
            let fixed = [Value::from(script), Value::Integer(count)];
            let keys = keys.iter().map(|key| Value::Bytes(key.inner().clone()));
            let all = fixed.into_iter().chain(keys).chain(arguments.iter().cloned()).collect();
            send(CustomCommand::new_static(verb, slot.clone(), false), all)
        };
        match call("EVALSHA", &self.hash).await {
            // Whoever does not know the text itself does not run scripts.
            Err(Failure::NoScript) => match call("EVAL", &self.text).await {
                Err(Failure::NoScript) => Err(Failure::Other),
                result => result,
            },
            result => result,
        }
    }
}

/// Answers `ARGV[1]`: whether answers are those to their commands.
pub(super) static ECHO: LazyLock<Script> = LazyLock::new(|| Script::new("return ARGV[1]"));

/// Deletes the lock `KEYS[1]` if it holds `ARGV[1]`, and leaves the word `ARGV[2]`, if there is one, at
/// `KEYS[2]` for `ARGV[3]` milliseconds. A value of another type is not ours; where there is no memory for
/// the word, there is none.
pub(super) static UNLOCK: LazyLock<Script> = LazyLock::new(|| {
    let unlock = r"
if redis.pcall('GET',KEYS[1])~=ARGV[1] then return 0 end
if ARGV[2] then redis.pcall('SET',KEYS[2],ARGV[2],'PX',ARGV[3]) end
return redis.call('UNLINK',KEYS[1])
";
    Script::new(unlock)
});

/// Lets `KEYS[1]` live for another `ARGV[2]` milliseconds if it holds `ARGV[1]`.
pub(super) static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.pcall('GET',KEYS[1])==ARGV[1] then return redis.call('PEXPIRE',KEYS[1],ARGV[2]) else return 0 end",
    )
});

/// Deletes the record `KEYS[1]`; answers whether it or a fetch that is to fill it was there (its lock
/// `KEYS[2]`).
pub(super) static FORGET: LazyLock<Script> =
    LazyLock::new(|| Script::new("return redis.call('UNLINK',KEYS[1])+redis.call('EXISTS',KEYS[2])"));

/// Deletes the record `KEYS[1]` if its bytes from `ARGV[2]` to `ARGV[3]` are `ARGV[1]`.
pub(super) static DISCARD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.pcall('GETRANGE',KEYS[1],ARGV[2],ARGV[3])==ARGV[1] then return redis.call('UNLINK',KEYS[1]) else return 0 end",
    )
});
/// How the scripts of the journal begin: nothing is done for a call that was damaged on its way, and who
/// called can tell whether an answer is the one to it ([`crate::store::journal::seal`]).
const SEALED: &str = r"
local seal=table.remove(ARGV)
local function sum(text) return redis.sha1hex(text):sub(1,16) end
if sum(table.concat(KEYS)..table.concat(ARGV))~=seal then return redis.error_reply('FOREBAY a damaged call') end
local function sealed(reply) return reply..sum(seal..reply) end
";

/// The journal's state, which the scripts below begin by reading: `KEYS` are state, ids, prefixes, log.
/// `ARGV[1]` is the incarnation that begins should there be none, or should one of the tables be gone, and
/// `ARGV[2]` the least number that it begins with.
const STATE: &str = r"
local time=redis.call('TIME')
local now=time[1]*1000+math.floor(time[2]/1000)
local clock,least=now*16,tonumber(ARGV[2])
local held=redis.pcall('GET',KEYS[1])
local life,born,seq,last
local mark=string.rep('\0',8)
if type(held)=='string' and #held==49 and held:byte(1)==251 then
  life=held:sub(2,17)
  born,seq,last=struct.unpack('>I8I8I8',held:sub(18,41))
  mark=held:sub(42)
end
local function state() return '\251'..life..struct.pack('>I8I8I8',born,seq,last)..mark end
local function lives(key) return type(redis.pcall('ZSCORE',key,'i'..life))=='string' end
if not life or not lives(KEYS[2]) or not lives(KEYS[3]) then
  life,last,mark=ARGV[1],0,string.rep('\0',8)
  seq=math.max(clock,least,seq or 0)
  born=seq
  redis.call('UNLINK',KEYS[2],KEYS[3],KEYS[4])
  redis.call('ZADD',KEYS[2],0,'i'..life)
  redis.call('ZADD',KEYS[3],0,'i'..life)
  redis.call('SET',KEYS[1],state())
end
";

/// How the journal stands. Its number goes on with the clock, once a second; where that cannot be written
/// for want of memory, no purge can be either, and where it cannot for any other reason, this server does
/// not know what it says.
pub(super) static LOOK: LazyLock<Script> = LazyLock::new(|| {
    let look = r"
local full=0
if clock-seq>=16000 or seq<least then
  local before=seq
  seq=math.max(seq,clock,least)
  local set=redis.pcall('SET',KEYS[1],state())
  if set.err then
    if not set.err:find('OOM',1,true) then return set end
    full,seq=1,before
  end
end
return sealed('\251'..string.char(full)..life..struct.pack('>I8I8I8',born,seq,last)..mark..struct.pack('>I8',now))
";
    Script::new(format!("{SEALED}{STATE}{look}"))
});

/// One purge: `ARGV[3]` mode, `ARGV[4]` the number that makes it needless (ids purged with it or later are
/// left out; 0 = none are), `ARGV[5]` ids, `ARGV[6]` milliseconds that they are remembered, `ARGV[7]` the
/// most members of the prefixes that another may be added to (one prefix is two, once it was purged in both
/// modes), `ARGV[8]` about how long the log is, `ARGV[9]` its mark (8 bytes), then prefixes. Answers its number; 0 where nothing
/// is left of it; -1 where there is no room for its prefixes.
pub(super) static TELL: LazyLock<Script> = LazyLock::new(|| {
    let tell = r"
local mode,below=ARGV[3],tonumber(ARGV[4])
local function needless(key,what)
  if below==0 then return false end
  local hard=tonumber(redis.call('ZSCORE',key,'h'..what) or 0)
  local same=tonumber(redis.call('ZSCORE',key,mode..what) or 0)
  return math.max(hard,same)>=below
end
local ids={}
for at=1,#ARGV[5],8 do
  local id=ARGV[5]:sub(at,at+7)
  if not needless(KEYS[2],id) then ids[#ids+1]=id end
end
local old=(now-tonumber(ARGV[6]))*16
local prefixes,new={},0
for at=10,#ARGV do
  if not needless(KEYS[3],ARGV[at]) then
    prefixes[#prefixes+1]=ARGV[at]
    if not redis.call('ZSCORE',KEYS[3],'h'..ARGV[at]) and not redis.call('ZSCORE',KEYS[3],'s'..ARGV[at]) then new=new+1 end
  end
end
if #ids+#prefixes==0 then return sealed('0') end
if new>0 then
  redis.call('ZREMRANGEBYSCORE',KEYS[3],1,old)
  if redis.call('ZCARD',KEYS[3])-1+new>tonumber(ARGV[7]) then return sealed('-1') end
end
local before=last
seq=math.max(seq+1,clock,least+1)
if seq>281474976710655 then return redis.error_reply('FOREBAY the numbers of purges are used up') end
local marks=ARGV[9]..mark
last,mark=seq,ARGV[9]
redis.call('SET',KEYS[1],state())
local number=string.format('%.0f',seq)
for at=1,#ids do redis.call('ZADD',KEYS[2],number,mode..ids[at]) end
local entry={KEYS[4],'MAXLEN','~',ARGV[8],number..'-0','b',string.format('%.0f',before),'k',marks,'m',mode,'i',table.concat(ids)}
for at=1,#prefixes do
  redis.call('ZADD',KEYS[3],number,mode..prefixes[at])
  entry[#entry+1]='x'
  entry[#entry+1]=prefixes[at]
end
entry[#entry+1]='c'
entry[#entry+1]=sum(table.concat(entry,'',5,#entry-1))
local added=redis.pcall('XADD',unpack(entry))
if type(added)=='table' and added.err then
  redis.call('UNLINK',KEYS[4])
  redis.call('XADD',unpack(entry))
end
local gone=redis.call('ZRANGE',KEYS[2],1,old,'BYSCORE','LIMIT',0,100)
if #gone>0 then redis.call('ZREM',KEYS[2],unpack(gone)) end
return sealed(number)
";
    Script::new(format!("{SEALED}{STATE}{tell}"))
});

/// A page of a table: `KEYS` are state and table, `ARGV[1]` the number to begin with, `ARGV[2]` the most
/// members.
pub(super) static PAGE: LazyLock<Script> = LazyLock::new(|| {
    let page = r"
local held=redis.call('GET',KEYS[1])
if type(held)~='string' or #held~=49 then return sealed('') end
local found=redis.call('ZRANGE',KEYS[2],ARGV[1],'+inf','BYSCORE','LIMIT',0,ARGV[2],'WITHSCORES')
local page={'\251'..held:sub(2,17)}
for at=1,#found,2 do
  page[#page+1]=struct.pack('>I8I2',tonumber(found[at+1]),#found[at])..found[at]
end
return sealed(table.concat(page))
";
    Script::new(format!("{SEALED}{page}"))
});
