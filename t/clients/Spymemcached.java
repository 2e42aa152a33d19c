import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.logging.Level;
import java.util.logging.Logger;
import net.spy.memcached.CASResponse;
import net.spy.memcached.CASValue;
import net.spy.memcached.ConnectionFactoryBuilder;
import net.spy.memcached.MemcachedClient;
import net.spy.memcached.auth.AuthDescriptor;
import net.spy.memcached.auth.PlainCallbackHandler;

/** spymemcached: futures, bulk gets, cas, counters with a default, get and touch, all nodes as a ring; text, binary, SASL.
 *  Usage: Spymemcached MODE PORT... (written through the first, read through the last). */
public class Spymemcached {
    static final int MANY = 300;

    static void check(String what, Object got, Object wanted) {
        if (!(wanted == null ? got == null : wanted.equals(got))) {
            System.out.println("FAILED " + what + ": " + got + " instead of " + wanted);
            System.exit(1);
        }
        System.out.println("ok " + what);
    }

    static MemcachedClient client(String mode, List<String> ports, String password) throws Exception {
        ConnectionFactoryBuilder builder = new ConnectionFactoryBuilder().setOpTimeout(20000);
        if (!mode.equals("text"))
            builder.setProtocol(ConnectionFactoryBuilder.Protocol.BINARY);
        if (mode.equals("sasl"))
            builder.setAuthDescriptor(new AuthDescriptor(new String[] {"PLAIN"}, new PlainCallbackHandler("user", password)));
        List<InetSocketAddress> addresses = new ArrayList<>();
        for (String port : ports)
            addresses.add(new InetSocketAddress("127.0.0.1", Integer.parseInt(port)));
        return new MemcachedClient(builder.build(), addresses);
    }

    static void singleKeys(MemcachedClient writer, MemcachedClient reader) throws Exception {
        byte[] large = new byte[900000];
        Arrays.fill(large, (byte)'x');
        Object[][] values = {{"text", "Grüße"}, {"number", 42}, {"long", 1L << 62}, {"list", new ArrayList<>(List.of(1, "two"))}, {"empty", ""}};
        for (Object[] pair : values) {
            check("set " + pair[0], writer.set((String)pair[0], 100, pair[1]).get(), true);
            check("get " + pair[0], reader.get((String)pair[0]), pair[1]);
        }
        check("set large", writer.set("large", 0, large).get(), true);
        check("get large", Arrays.equals((byte[])reader.get("large"), large), true);
        check("a miss", reader.get("nothing"), null);
        check("add of what is there", writer.add("text", 0, "no").get(), false);
        check("add", writer.add("added", 0, "yes").get(), true);
        check("replace of what is not there", writer.replace("absent", 0, "no").get(), false);
        check("replace", writer.replace("added", 0, "middle").get(), true);
        check("append", writer.append("added", "-end").get(), true);
        check("prepend", writer.prepend("added", "begin-").get(), true);
        check("appended and prepended", reader.get("added"), "begin-middle-end");
        check("touch", writer.touch("added", 1000).get(), true);
        check("touch of nothing", writer.touch("nothing", 1000).get(), false);
        check("delete", writer.delete("added").get(), true);
        check("delete of nothing", reader.delete("added").get(), false);
    }

    static void numbers(MemcachedClient writer, MemcachedClient reader) throws Exception {
        check("incr with a default", writer.incr("count", 5, 100L), 100L);
        check("incr", writer.incr("count", 5), 105L);
        check("decr", reader.decr("count", 200), 0L);
        check("incr of nothing", writer.incr("nothing", 1), -1L);
        check("asyncIncr", writer.asyncIncr("count", 7).get(), 7L);
        check("its value is text", ((String)reader.get("count")).trim(), "7");
    }

    static void cas(String mode, MemcachedClient writer, MemcachedClient reader) throws Exception {
        CASValue<Object> found = reader.gets("text");
        check("gets", found.getValue(), "Grüße");
        check("cas", writer.cas("text", found.getCas(), "first"), CASResponse.OK);
        check("cas that is late", reader.cas("text", found.getCas(), "second"), CASResponse.EXISTS);
        check("cas of nothing", writer.cas("absent", found.getCas(), "x"), CASResponse.NOT_FOUND);
        check("the first one is there", reader.get("text"), "first");
        if (mode.equals("text"))
            return;
        CASValue<Object> touched = reader.getAndTouch("text", 1000);
        check("getAndTouch", touched.getValue(), "first");
        check("getAndTouch of nothing", reader.getAndTouch("nothing", 1000), null);
    }

    static void manyKeys(MemcachedClient reader, MemcachedClient all, int nodes) throws Exception {
        List<Future<Boolean>> stored = new ArrayList<>();
        List<String> keys = new ArrayList<>(List.of("nothing"));
        for (int i = 0; i < MANY; i++) {
            keys.add("many" + i);
            stored.add(all.set("many" + i, 0, "value " + i));
        }
        for (Future<Boolean> one : stored)
            if (!one.get())
                check("set through all nodes", false, true);
        check("getBulk from all nodes", all.getBulk(keys).size(), MANY);
        Map<String, Object> found = reader.asyncGetBulk(keys).get();
        check("asyncGetBulk from one", found.size(), MANY);
        check("one of them", found.get("many7"), "value 7");
        check("getStats", all.getStats().values().stream().allMatch(stats -> Integer.parseInt(stats.get("pid")) > 0), true);
        check("getStats items", all.getStats("items").size(), nodes);
        check("getVersions", all.getVersions().size(), nodes);
    }

    static void wrongPassword(List<String> ports) throws Exception {
        MemcachedClient stranger = client("sasl", ports, "wrong");
        boolean stored;
        try {
            stored = stranger.set("x", 0, "x").get(3, TimeUnit.SECONDS);
        } catch (Exception refused) {
            stored = false;
        }
        check("a wrong password is refused", stored, false);
        stranger.shutdown();
    }

    public static void main(String[] words) {
        try {
            story(words);
            System.exit(0);
        } catch (Exception error) {
            error.printStackTrace();
            System.exit(1);
        }
    }

    static void story(String[] words) throws Exception {
        System.setProperty("net.spy.log.LoggerImpl", "net.spy.memcached.compat.log.SunLogger");
        Logger.getLogger("net.spy.memcached").setLevel(Level.OFF);
        String mode = words[0];
        List<String> ports = Arrays.asList(words).subList(1, words.length);
        MemcachedClient writer = client(mode, ports.subList(0, 1), "secret word");
        MemcachedClient reader = client(mode, ports.subList(ports.size() - 1, ports.size()), "secret word");
        MemcachedClient all = client(mode, ports, "secret word");
        check("flush", writer.flush().get(), true);
        singleKeys(writer, reader);
        numbers(writer, reader);
        cas(mode, writer, reader);
        manyKeys(reader, all, ports.size());
        check("flush", writer.flush().get(), true);
        check("all is gone", reader.getBulk("list", "many7", "count").size(), 0);
        if (mode.equals("sasl"))
            wrongPassword(ports.subList(0, 1));
        for (MemcachedClient one : List.of(writer, reader, all))
            one.shutdown(5, TimeUnit.SECONDS);
    }
}
