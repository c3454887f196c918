// The echo on libuv. Each connection has its buffer, and reads on when its answer is written.
#include <uv.h>

#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>

typedef struct {
    uv_tcp_t stream;
    uv_write_t write;
    char bytes[4096];
} connection;

static void give_buffer(uv_handle_t *handle, size_t wanted, uv_buf_t *buffer) {
    (void)wanted;
    connection *owner = (connection *)handle;
    *buffer = uv_buf_init(owner->bytes, sizeof owner->bytes);
}

static void forget(uv_handle_t *handle) { free(handle); }

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer);

static void on_written(uv_write_t *write, int status) {
    uv_stream_t *stream = write->handle;
    if (uv_is_closing((uv_handle_t *)stream)) return;
    if (status < 0 || uv_read_start(stream, give_buffer, on_read) != 0) uv_close((uv_handle_t *)stream, forget);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer) {
    if (count == 0) return;
    if (count < 0) {
        uv_close((uv_handle_t *)stream, forget);
        return;
    }
    uv_buf_t answer = uv_buf_init(buffer->base, (unsigned)count);
    // Nearly always all goes at once, and the buffer is free again.
    int sent = uv_try_write(stream, &answer, 1);
    if (sent == count) return;
    if (sent > 0) answer = uv_buf_init(answer.base + sent, (unsigned)(count - sent));
    uv_read_stop(stream);
    if (uv_write(&((connection *)stream)->write, stream, &answer, 1, on_written) != 0) uv_close((uv_handle_t *)stream, forget);
}

static void on_connection(uv_stream_t *listener, int status) {
    if (status < 0) return;
    connection *accepted = malloc(sizeof *accepted);
    if (accepted == NULL || uv_tcp_init(listener->loop, &accepted->stream) != 0) abort();
    uv_stream_t *stream = (uv_stream_t *)&accepted->stream;
    if (uv_accept(listener, stream) != 0 || uv_tcp_nodelay(&accepted->stream, 1) != 0 || uv_read_start(stream, give_buffer, on_read) != 0)
        uv_close((uv_handle_t *)stream, forget);
}

static void must(int result) {
    if (result >= 0) return;
    fprintf(stderr, "libuv: %s\n", uv_strerror(result));
    exit(1);
}

int main(void) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    uv_loop_t *loop = uv_default_loop();
    uv_tcp_t listener;
    struct sockaddr_in address;
    int length = sizeof address;
    must(uv_tcp_init(loop, &listener));
    must(uv_ip4_addr("127.0.0.1", 0, &address));
    must(uv_tcp_bind(&listener, (const struct sockaddr *)&address, 0));
    must(uv_listen((uv_stream_t *)&listener, 1024, on_connection));
    must(uv_tcp_getsockname(&listener, (struct sockaddr *)&address, &length));
    printf("listening on 127.0.0.1:%u\n", ntohs(address.sin_port));
    fflush(stdout);
    return uv_run(loop, UV_RUN_DEFAULT);
}
