// What bench/index_driver.h does, with the JDK's ConcurrentSkipListMap: prints "case<TAB>figure" lines.
// Usage: java IndexSkipList.java N_KEYS N_OPS N_THREADS
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.util.Arrays;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.CyclicBarrier;

public class IndexSkipList {
    static final ThreadMXBean CPU = ManagementFactory.getThreadMXBean();
    static final double THETA = 0.99;
    static long nKeys, nextNew;
    static double zeta, eta;
    static volatile long sink;

    static long mix(long x) {
        x += 0x9e3779b97f4a7c15L;
        x = (x ^ (x >>> 30)) * 0xbf58476d1ce4e5b9L;
        x = (x ^ (x >>> 27)) * 0x94d049bb133111ebL;
        return x ^ (x >>> 31);
    }

    static long keyOf(long i) {
        return mix(i + 1) >>> 2;
    }

    static void prepareZipf() {
        for (long i = 1; i <= nKeys; ++i) zeta += Math.pow(1.0 / i, THETA);
        eta = (1 - Math.pow(2.0 / nKeys, 1 - THETA)) / (1 - (1 + Math.pow(0.5, THETA)) / zeta);
    }

    static long zipf(SplittableRandom r) {
        double u = r.nextDouble(), uz = u * zeta;
        if (uz < 1) return 0;
        if (uz < 1 + Math.pow(0.5, THETA)) return 1;
        return Math.min(nKeys - 1, (long) (nKeys * Math.pow(eta * u - eta + 1, 1 / (1 - THETA))));
    }

    interface Work {
        void run(int thread);
    }

    // Operations per CPU second, summed over the threads, in millions.
    static double perCpuSecond(int nThreads, long opsEach, Work work) throws Exception {
        double[] seconds = new double[nThreads];
        CyclicBarrier start = new CyclicBarrier(nThreads);
        CountDownLatch end = new CountDownLatch(nThreads);
        for (int t = 0; t < nThreads; ++t) {
            final int me = t;
            new Thread(() -> {
                try {
                    start.await();
                } catch (Exception e) {
                    throw new IllegalStateException(e);
                }
                long begin = CPU.getCurrentThreadCpuTime();
                work.run(me);
                seconds[me] = (CPU.getCurrentThreadCpuTime() - begin) * 1e-9;
                end.countDown();
            }).start();
        }
        end.await();
        double sum = 0;
        for (double s : seconds) sum += opsEach / s;
        return sum / 1e6;
    }

    static void print(String name, double figure) {
        System.out.println(name + "\t" + figure);
    }

    // Kinds as in the driver: 0 get, 1 put, 2 scan.
    record Ops(long[] keys, byte[] kinds, byte[] lengths) {}

    static Ops makeOps(int n, int put, int scan, boolean putsAreNew, boolean useZipf, SplittableRandom r) {
        Ops o = new Ops(new long[n], new byte[n], new byte[n]);
        for (int i = 0; i < n; ++i) {
            long id = useZipf ? Long.remainderUnsigned(mix(zipf(r)), nKeys) : r.nextLong(nKeys);
            int p = r.nextInt(100);
            o.kinds[i] = (byte) (p < put ? 1 : p < put + scan ? 2 : 0);
            o.keys[i] = o.kinds[i] == 1 && putsAreNew ? keyOf(nextNew++) : keyOf(id);
            o.lengths[i] = (byte) (1 + r.nextInt(100));
        }
        return o;
    }

    static void runOne(ConcurrentSkipListMap<Long, Long> map, Ops o, int i) {
        if (o.kinds[i] == 0) {
            Long v = map.get(o.keys[i]);
            if (v != null) sink = v;
        } else if (o.kinds[i] == 1) {
            map.put(o.keys[i], o.keys[i]);
        } else {
            int left = o.lengths[i];
            long last = 0;
            for (Map.Entry<Long, Long> e : map.tailMap(o.keys[i], true).entrySet()) {
                last = e.getValue();
                if (--left == 0) break;
            }
            sink = last;
        }
    }

    public static void main(String[] args) throws Exception {
        nKeys = Long.parseLong(args[0]);
        int nOps = Integer.parseInt(args[1]), nThreads = Integer.parseInt(args[2]);
        nextNew = nKeys;
        prepareZipf();
        ConcurrentSkipListMap<Long, Long> map = new ConcurrentSkipListMap<>();
        String suffix = "-" + nThreads + "t";
        print("load" + suffix, perCpuSecond(nThreads, nKeys / nThreads, t -> {
            for (long i = nKeys * t / nThreads; i < nKeys * (t + 1) / nThreads; ++i) map.put(keyOf(i), i);
        }));
        SplittableRandom r = new SplittableRandom(42);
        String[] names = {"C", "B", "A", "A'", "E"};
        int[] puts = {0, 5, 50, 50, 5}, scans = {0, 0, 0, 0, 95};
        for (int m = 0; m < names.length; ++m)
            for (boolean useZipf : new boolean[] {false, true}) {
                int n = scans[m] > 0 ? nOps / 4 : nOps;
                Ops[] ops = new Ops[nThreads];
                for (int t = 0; t < nThreads; ++t) ops[t] = makeOps(n, puts[m], scans[m], m != 3, useZipf, r);
                double[][] ns = new double[nThreads][n / 16 + 1];
                String name = names[m] + (useZipf ? "-zipf" : "-uniform");
                print(name + suffix, perCpuSecond(nThreads, n, t -> {
                    for (int i = 0; i < n; ++i) {
                        if (i % 16 != 0) {
                            runOne(map, ops[t], i);
                            continue;
                        }
                        long begin = System.nanoTime();
                        runOne(map, ops[t], i);
                        ns[t][i / 16] = System.nanoTime() - begin;
                    }
                }));
                double[] all = Arrays.stream(ns).flatMapToDouble(Arrays::stream).sorted().toArray();
                if (!useZipf) print("p99 " + name + suffix, all[(int) (all.length * 0.99)]);
            }
    }
}
