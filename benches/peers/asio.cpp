// The echo on Asio: asio THREADS. With one thread the context is told that nobody else uses it.
#include <asio.hpp>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <sys/prctl.h>
#include <thread>
#include <vector>

using asio::ip::tcp;

struct Connection : std::enable_shared_from_this<Connection> {
    tcp::socket socket;
    std::array<char, 4096> buffer;

    explicit Connection(tcp::socket accepted) : socket(std::move(accepted)) {}

    void read() {
        socket.async_read_some(asio::buffer(buffer), [self = shared_from_this()](asio::error_code error, std::size_t count) {
            if (!error) self->write(count);
        });
    }

    void write(std::size_t count) {
        asio::async_write(socket, asio::buffer(buffer, count), [self = shared_from_this()](asio::error_code error, std::size_t) {
            if (!error) self->read();
        });
    }
};

static void accept(tcp::acceptor& acceptor) {
    acceptor.async_accept([&acceptor](asio::error_code error, tcp::socket socket) {
        if (!error) {
            socket.set_option(tcp::no_delay(true), error);
            std::make_shared<Connection>(std::move(socket))->read();
        }
        accept(acceptor);
    });
}

int main(int count, char** arguments) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int threads = count > 1 ? std::atoi(arguments[1]) : 1;
    asio::io_context context(threads > 1 ? threads : ASIO_CONCURRENCY_HINT_UNSAFE);
    tcp::acceptor acceptor(context, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
    accept(acceptor);
    std::printf("listening on 127.0.0.1:%u\n", unsigned{acceptor.local_endpoint().port()});
    std::fflush(stdout);
    std::vector<std::thread> others;
    for (int index = 1; index < threads; ++index) others.emplace_back([&context] { context.run(); });
    context.run();
    for (std::thread& other : others) other.join();
}
